# %% [markdown]
# # What does a model predict when it is told nothing?
#
# 25 minutes, CPU. Needs: notebook 01. Afterwards you can
#
# - compute an unconditional score from the conditional ones,
# - say what the difference of the two is, and what it is not,
# - see both predictions, and their difference, in a real text-to-image model.

# %% tags=["setup"]
import torch

from esd_core import Target, denoise, load_model
from esd_core.plane.mixture import ALPHA_BAR, Mixture, add_noise, noise, ring
from esd_core.study.noise_predictions import predictions, rms, trajectory
from lab import plane_figures as fields
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, Reveal, choice, slider
from lab.prediction_pictures import difference_sheet, prediction_sheet

world = ring()  # three classes; class 0, at the top, plays the prompt
random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Where does each of the two scores point?
#
# Guided sampling asks a model twice at every step: once with the prompt, once with the empty prompt.
# On the mixture both answers are known. `world.score(x_t, alpha_bar, 0)` is told "class 0",
# `world.score(x_t, alpha_bar)` is told nothing.

# %%
where_to = Predict(
    "At a noisy point that came from class 1, the score of class 0 points ...",
    [
        "towards the middle of class 0, from wherever it stands",
        "towards the nearest cluster",
        "nowhere: there is nothing of class 0 near",
    ],
)
where_to

# %% tags=["solution"]
where_to.choose("towards the middle of class 0, from wherever it stands")

# %%
t = 250
x_0, k = world.draw(30, generator=random)
x_t = add_noise(x_0, noise(30, random), ALPHA_BAR[t])  # source of x_t: data of all classes, noised
scores = {"no class": world.score(x_t, ALPHA_BAR[t]), "class 0": world.score(x_t, ALPHA_BAR[t], 0)}
figure, axes = fields.panels(2, titles=[f"told {name}, t = {t} (exact)" for name in scores])

# %%
for axis, (name, score), concept in zip(axes, scores.items(), (None, 0), strict=True):
    fields.density(axis, world, t, concept)
    fields.arrows(axis, x_t, {f"score, {name}": score}, scale=0.2)
picture = Picture(figure, "Scores at 30 points: left to the nearest cluster, right all to the top one")
Reveal(where_to, picture)

# %%
check("2.1", where_to)

# %% [markdown]
# **What you saw.** Told nothing, the score climbs to whatever data are near. Told a class, it climbs
# to that class even from far away, and the farther, the longer its arrow.
#
# ## Can you build one from the other?
#
# A noisy point could have come from any class; `posterior[n, k]` says how likely each is for point n.
# Given the scores of all classes at all points, what is the score of someone who is not told?


# %%
def unconditional(posterior, scores):  # (N, K), (N, K, 2) -> (N, 2)
    ### BEGIN SOLUTION
    return (posterior[:, :, None] * scores).sum(dim=1)
    ### END SOLUTION


# %%
check("2.2", unconditional)

# %% [markdown]
# The library computes its unconditional score this way. To be sure, here is the slope of log p_t by
# finite differences, which knows nothing of posteriors, and a plain mean to compare with.

# %%
a, h = ALPHA_BAR[t], 1e-5
every = torch.stack([world.score(x_t, a, c) for c in range(3)], dim=1)  # (30, 3, 2)
weighted = (world.posterior(x_t, a)[..., None] * every).sum(1)
steps = h * torch.eye(2, dtype=torch.float64)
slope = [(world.log_density(x_t + s, a) - world.log_density(x_t - s, a)) / (2 * h) for s in steps]
slope = torch.stack(slope, dim=1)
assert torch.allclose(weighted, slope, atol=1e-5)
assert (every.mean(1) - slope).norm(dim=1).max() > 1
f"off by {(weighted - slope).abs().max():.0e} if weighted, {(every.mean(1) - slope).abs().max():.1f} if not"

# %% [markdown]
# ## What is the difference of the two?
#
# The first misreading to test: "the conditional score is the log-probability of the image". Then the
# difference of the two would be one number per picture. It is a vector, and it is a slope. Of what?

# %%
slope_of = Predict(
    "score(x_t given c) - score(x_t) is the gradient in x_t of ...",
    ["log p(x_t)", "log p(c given x_t)", "log p(c)"],
)
slope_of

# %% tags=["solution"]
slope_of.choose("log p(c given x_t)")


# %%
def slope_by_hand(f):
    return torch.stack([(f(x_t + s) - f(x_t - s)) / (2 * h) for s in steps], dim=1)


difference = scores["class 0"] - scores["no class"]

# %%
candidates = {
    "log p(x_t)": slope_by_hand(lambda x: world.log_density(x, a)),
    "log p(c given x_t)": slope_by_hand(lambda x: world.posterior(x, a)[:, 0].log()),
    "log p(c)": slope_by_hand(lambda x: world.weights[0].log().expand(len(x))),
}
off = {name: (slope - difference).abs().max().item() for name, slope in candidates.items()}
assert off["log p(c given x_t)"] < 1e-4 and difference.shape == x_t.shape
{name: f"off by {most:.1e}" for name, most in off.items()} if slope_of.value else "Predict first"

# %%
check("2.3", slope_of)

# %% [markdown]
# So a score is no probability, and the difference is none either: it is the way to go, from this x_t,
# to look more like class 0. Once x_t certainly is class 0 there is nowhere left to go. Move t, and
# watch where the difference is long (bright) and where it vanishes.


# %%
def draw_difference(t):
    titles = [f"p(class 0 given x_t), t = {t}", "length of eps_concept - eps_null"]
    figure, axes = fields.panels(2, titles=titles)
    line = torch.linspace(-4, 4, 90, dtype=torch.float64)
    grid, a = torch.cartesian_prod(line, line), ALPHA_BAR[t]
    length = (world.eps(grid, a, 0) - world.eps(grid, a)).norm(dim=1)
    for axis, values in zip(axes, (world.posterior(grid, a)[:, 0], length), strict=True):
        shown = axis.imshow(values.reshape(90, 90).T, extent=(-4, 4, -4, 4), origin="lower")
        axis.figure.colorbar(shown, ax=axis, shrink=0.8)
    return figure


# %%
alt = "Where a point counts as class 0 at t = {t}, and how long the difference is there"
Explorer(draw_difference, alt, t=slider(250, 0, 999, 1))

# %%
middle = ALPHA_BAR[t].sqrt() * world.means  # where the three clusters are at this t
length = (world.eps(middle, ALPHA_BAR[t], 0) - world.eps(middle, ALPHA_BAR[t])).norm(dim=1)
assert length[0] < 0.01 < 1 < length[1]  # class 0's own middle, class 1's
length

# %% [markdown]
# **What you saw.** Where the point already looks like class 0 the two predictions agree. Elsewhere
# they differ, and by about the same everywhere. Near t = 999 they agree wherever x_t can be.
#
# ## Does the unconditional score measure how good the model is?
#
# A second misreading: "the unconditional score is the model's average quality". Test it with two
# models that are both perfect. In `uneven`, class 0 is eight times as common as each other class;
# inside the classes nothing is different.

# %%
moved = Predict(
    "Same x_t, same t: which score differs between the two models?",
    [
        "the unconditional score only",
        "the conditional score only",
        "both",
        "neither: both models are as good as before",
    ],
)
moved

# %% tags=["solution"]
moved.choose("the unconditional score only")

# %%
uneven = Mixture(world.means, world.stds, torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64))
t = 700
line = torch.linspace(-1.4, 1.4, 4, dtype=torch.float64)
x_t = torch.cartesian_prod(line, line)  # source of x_t: a grid, where most noised data are at this t
figure, axes = fields.panels(2, extent=2.2, titles=[f"told nothing, t = {t}", f"told class 0, t = {t}"])

# %%
for axis, concept in zip(axes, (None, 0), strict=True):
    pair = {"world": world, "uneven": uneven}
    named = {name: mixture.score(x_t, ALPHA_BAR[t], concept) for name, mixture in pair.items()}
    fields.arrows(axis, x_t, named, scale=0.5)
Reveal(moved, Picture(figure, "Told nothing, the two models' arrows differ; told class 0 they coincide"))

# %%
a = ALPHA_BAR[t]
assert torch.equal(world.score(x_t, a, 0), uneven.score(x_t, a, 0))
assert (world.score(x_t, a) - uneven.score(x_t, a)).norm(dim=1).max() > 0.3
check("2.4", moved)

# %% [markdown]
# ## Now a real model
#
# The embedded model draws emoji from a prompt. Its predictions are grids of numbers, 4 x 16 x 16, and
# there is no formula to compare them with. We walk along one trajectory: the frozen model drawing
# "a cat", guided, from one noise. At every x_t on it we hold both answers.

# %%
model = load_model("emoji")
cat = trajectory(model, Target("a cat"), 0)  # frozen model's own guided trajectory, seed 0
at = predictions(model, cat, index=0)
assert at.eps_null.shape == at.eps_concept.shape == at.x_t.shape  # noise, as large as x_t
both = {"eps_null: frozen, empty prompt": at.eps_null, "eps_concept: frozen, 'a cat'": at.eps_concept}
title = f"t = {at.t}; x_t: frozen model, guided towards 'a cat', seed 0"
sheet = prediction_sheet(model, at, both, title)

# %%
Picture(sheet, "Noise, implied picture and lean of both predictions; only the lean tells them apart")

# %% [markdown]
# **What you saw.** As noise the two look the same: nearly all of it is the noise that *is* in x_t, and
# no prompt is needed to see that. Subtract it, and the pictures that are left differ: told nothing, a
# blur, the mean of much that could be hidden in x_t; told "a cat", a blurred cat. In the bottom row
# red cells are where the words made a difference.
#
# Now along the whole trajectory. Before you run it: will the blur of eps_null stay a blur?


# %% tags=["gallery"]
def draw_differences(prompt, seed):
    drawn = trajectory(model, Target(prompt), seed)
    points = [predictions(model, drawn, index) for index in (0, 4, 8, 12, 16)]
    title = f"frozen model; x_t: its own guided trajectory for '{prompt}', seed {seed}"
    return difference_sheet(model, points, title)


alt = "What the words '{prompt}' add from high noise to low noise, seed {seed}"
prompts = choice(["a cat", "a rocket", "a pizza", "a red background", "monochrome style"])
Explorer(draw_differences, alt, run=True, prompt=prompts, seed=slider(0, 0, 9, 1))

# %%
sizes = {
    p.t: (rms(p.eps_null), rms(p.difference)) for p in (predictions(model, cat, i) for i in range(0, 20, 3))
}
assert all(difference < null / 3 for null, difference in sizes.values())
{t: f"eps_null {null:.2f}, difference {difference:.2f}" for t, (null, difference) in sizes.items()}

# %% [markdown]
# **What you saw.** A few steps on, eps_null implies a cat too. Nobody told it; x_t does. This is the
# posterior at work: once x_t shows a cat, the mean over all prompts is a mean over cats. The difference
# is a small part of each prediction at every t. Yet it is all that the prompt contributes, and
# everything in the next notebooks is done with it.

# %%
who = Predict(
    "eps_null and eps_concept come from ...",
    ["two models, trained apart", "one frozen model, asked twice", "a model and the data set"],
)
who

# %% tags=["solution"]
who.choose("one frozen model, asked twice")

# %%
prompts = model.encode(["", "a cat"])  # (2, tokens, width)
with torch.no_grad():
    null, concept = denoise.predict_pair(model.unet, at.x_t, torch.tensor(at.t), prompts[:1], prompts[1:])
assert torch.allclose(null, at.eps_null, atol=1e-4) and torch.allclose(concept, at.eps_concept, atol=1e-4)
assert not any(weight.requires_grad for weight in model.unet.parameters())
check("2.5", who)

# %% [markdown]
# How can one model answer both? In training the caption is hidden now and then. Those examples teach
# it to predict without one, and squared error makes it predict the mean: the identity above.
#
# ## In three sentences
#
# The unconditional score is the mean of the conditional ones, weighted by how likely each class is at
# this x_t. The difference of the two is the slope of log p(c given x_t), a direction, not a
# probability and not a grade. One call computes both: `esd_core.denoise.predict_pair`.
#
# Simplified here: a prompt is not one of three classes, and the emoji model only approximates its
# scores.
#
# **Where next.** Notebook 03 multiplies the difference by a number. Two questions to take along: where
# on a trajectory would you expect the words to matter most, and does your answer agree with the sizes
# printed above? What would eps_null be for a model that was never trained with hidden captions?
