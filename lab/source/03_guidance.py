# %% [markdown]
# # What does guidance sample from?
#
# 25 minutes, CPU. Needs: notebook 02. Afterwards you can
#
# - write guidance, and translate between its two conventions,
# - say in numbers what it does to a distribution, and which famous formula it is *not*,
# - explain what a negative prompt does, and what it cannot do.

# %% tags=["setup"]
import torch

from esd_core import denoise, load_model
from esd_core import generate as draw_pictures
from esd_core.plane.mixture import ALPHA_BAR, add_noise, generate, noise, ring
from esd_core.study import figures
from lab import plane_figures as fields
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, Reveal, choice, slider

world = ring()  # three classes, radius 2, standard deviation 0.4; class 0 is at the top
random = torch.Generator().manual_seed(0)
start = noise(4000, random)  # where all samples of this notebook begin, at t = 999

# %% [markdown]
# ## Which number is no guidance?
#
# Guidance takes the two predictions of notebook 02 and goes along their difference. Write it so that
# scale 0 is the prediction for the empty prompt and scale 1 the one for the prompt.


# %%
def guided(null, cond, guidance_scale):
    ### BEGIN SOLUTION
    return null + guidance_scale * (cond - null)
    ### END SOLUTION


# %%
check("3.1", guided)

# %% [markdown]
# The paper that introduced it (Ho and Salimans, arXiv 2207.12598) counts differently:
#
#     (1 + w) * eps_cond - w * eps_null
#
# Return our scale for the paper's w.


# %%
def scale_of(w):
    ### BEGIN SOLUTION
    return 1 + w
    ### END SOLUTION


# %%
check("3.2", scale_of)

# %%
t = 300
x_t = add_noise(world.draw(5, generator=random)[0], noise(5, random), ALPHA_BAR[t])  # data, noised
null, cond = world.eps(x_t, ALPHA_BAR[t]), world.eps(x_t, ALPHA_BAR[t], 0)
for w in (0.0, 2.0, 6.5):
    assert torch.allclose((1 + w) * cond - w * null, denoise.guide(null, cond, 1 + w))
figure, (axis,) = fields.panels(1, titles=[f"towards class 0, t = {t} (exact)"], size=4)
named = {f"scale {s}": -denoise.guide(null, cond, s) for s in (3, 1, 0, -1)}
fields.density(axis, world, t)
fields.arrows(axis, x_t, named, scale=0.35)
Picture(figure, "Minus the guided prediction at five points for scales -1, 0, 1 and 3")

# %% [markdown]
# **What you saw.** (Minus a noise prediction points where sampling goes.) All arrows of one point end on
# one straight line. Between 0 and 1 you mix two
# answers that a model gave. Everything else is *extrapolation*: no model was trained to say it. (In
# diffusers, scales of 1 and below switch guidance off and give the conditional answer alone; here
# every number means what it says.)
#
# ## What happens to the samples?
#
# Class 0 has its mean at distance 2 and standard deviation 0.4. We sample it with scale 3.

# %%
cloud = Predict(
    "With scale 3, compared with the real class 0, the cloud of samples is ...",
    [
        "where it was, and narrower",
        "where it was, as wide as it was",
        "further out, and narrower",
        "further out, and wider",
    ],
)
cloud

# %% tags=["solution"]
cloud.choose("further out, and narrower")


# %%
def draw_guided(scale):
    titles = ["class 0, the data", f"sampled with scale {scale:g}"]
    figure, axes = fields.panels(2, titles=titles)
    ends = generate(world.guided(0, scale), start[:1000])
    data, _ = world.draw(1000, concept=0, generator=torch.Generator().manual_seed(1))
    for axis, points in zip(axes, (data, ends), strict=True):
        fields.density(axis, world, 0)
        fields.scatter(axis, points)
    return figure


knob = slider(3.0, -2.0, 8.0, 0.5)

# %%
Reveal(cloud, Explorer(draw_guided, "Data of class 0, and samples with guidance {scale}", scale=knob))


# %%
def measure(scale):  # mean distance, share nearest class 0, spread along and across
    ends = generate(world.guided(0, scale), start)
    across, along = ends.std(0).tolist()
    return (ends[:, 1].mean().item(), (world.nearest(ends) == 0).double().mean().item(), along, across)


# %%
rows = {scale: measure(scale) for scale in (1.0, 3.0, 7.5)}
expected = {1.0: (1.93, 1, 0.37, 0.37), 3.0: (2.41, 1, 0.22, 0.28), 7.5: (2.87, 1, 0.16, 0.24)}
for scale, row in rows.items():
    assert torch.allclose(torch.tensor(row), torch.tensor(expected[scale]), atol=0.03)
text = "mean at {:.2f}, class 0: {:.0%}, spread {:.2f} along the axis and {:.2f} across"
{scale: text.format(*row) for scale, row in rows.items()} if cloud.value else "Predict first"

# %%
fine = generate(world.guided(0, 3.0), start, num_inference_steps=400)[:, 1].mean().item()
assert abs(fine - 2.42) < 0.01
f"scale 3 with 400 steps instead of 50: mean at {fine:.2f}" if cloud.value else "Predict first"

# %%
check("3.3", cloud)

# %% [markdown]
# **What you saw.** Scale 1 gives the class back: a little too narrow, since 50 steps are finite, and a
# little too near, since we start from pure noise while at t = 999 a trace of the data should be left.
# Scale 3 puts the mean at 2.41 and the spread along the axis at 0.22; scale 7.5 puts them at 2.87 and
# 0.16; with 400 steps it is much the same. It is not "more certainly class 0": that was
# 100% at scale 1.
#
# ## Is it p(x) p(c given x)^s?
#
# So it is often written: guidance with scale s samples data tilted by a classifier, p(x) p(c given
# x)^s, or sharpened, p(x given c)^s. Here both can be computed, on a grid.

# %%
line = torch.linspace(-5, 5, 401, dtype=torch.float64)
grid, a = torch.cartesian_prod(line, line), ALPHA_BAR[0]  # t = 0: clean data, to three digits


def moments(log_density):  # mean distance and spread along the axis, of an unnormalised density
    p = torch.softmax(log_density, 0)
    mean = (p * grid[:, 1]).sum()
    return mean.item(), (p * (grid[:, 1] - mean) ** 2).sum().sqrt().item()


s = 3
tilted = world.log_density(grid, a) + s * world.posterior(grid, a)[:, 0].log()
sharpened = s * world.log_density(grid, a, 0)

# %%
mean, _, along, _ = rows[3.0]
table = {"tilted": moments(tilted), "sharpened": moments(sharpened), "guided samples": (mean, along)}
assert abs(table["tilted"][0] - 2) < 0.01 and abs(table["tilted"][1] - 0.40) < 0.01
assert abs(table["sharpened"][0] - 2) < 0.01 and abs(table["sharpened"][1] - 0.23) < 0.01
{name: f"mean at {m:.2f}, spread {std:.2f}" for name, (m, std) in table.items()}

# %%
ends = generate(world.guided(0, s), start[:1000])
figure, axes = fields.panels(
    3, extent=3.5, titles=["p(x) p(c given x)^3", "p(x given c)^3", "guided, scale 3"]
)

# %%
for axis, log_density in zip(axes, (tilted, sharpened, tilted), strict=True):
    p = (log_density - log_density.max()).exp().reshape(401, 401).T
    axis.contour(line, line, p, levels=[0.01, 0.1, 0.5], colors=figures.FAINT, linewidths=0.8)
fields.scatter(axes[2], ends)
Picture(figure, "Two tilted densities stay centred at distance 2; the guided samples sit further out")

# %% [markdown]
# **What you saw.** Neither. Both formulas keep the mean at 2.00; guided samples lie at 2.41. At each
# single t guidance *does* follow the slope of p_t(x_t) p_t(c given x_t)^s. But those densities, for
# different t, are not noised versions of one another, so following them down does not lead to the one
# at t = 0 (arXiv 2408.09000 and 2409.13074 show this in general). In many dimensions the overshoot is
# smaller than here (arXiv 2502.07849).
#
# ## Does guidance navigate between categories?
#
# The misreading: "guidance navigates categories: more of it moves the sample from other classes to
# this one". If so, the share of samples in class 0 must rise with the scale.

# %%
share = Predict(
    "From scale 1 to scale 7.5, the share of samples that land nearest class 0 ...",
    ["rises towards 100%", "stays where it is, at 100%", "falls"],
)
share

# %% tags=["solution"]
share.choose("stays where it is, at 100%")


# %%
def shares(scale):  # nearest class 0; inside any class at all, within 3 standard deviations
    ends = generate(world.guided(0, scale), start)
    inside = torch.cdist(ends, world.means).min(1).values < 3 * 0.4
    return (world.nearest(ends) == 0).double().mean().item(), inside.double().mean().item()


found = {scale: shares(scale) for scale in (-2, -1, 0, 1, 3, 7.5)}
assert found[1][0] > 0.999 and found[7.5][0] > 0.999 and abs(found[0][0] - 1 / 3) < 0.03
assert found[-1][0] < 0.1 and found[-1][1] < 0.1  # not in class 0, and not in another class either
text = "class 0: {:.1%}, inside any class: {:.1%}"
{s: text.format(*row) for s, row in found.items()} if share.value else "Predict first"

# %%
check("3.4", share)

# %% [markdown]
# **What you saw.** Between 0 and 1 the share rises from a third to all. Above 1 it has nowhere to go.
# And below 0, *negative guidance*, samples leave class 0, but 92% of them do not arrive in another
# class: they leave the data altogether. Guidance goes along a direction; it knows no map of categories.
#
# ## And in a real model?
#
# The same seeds at five scales. The starting noise is the same in all columns.

# %%
model = load_model("emoji")


def draw_scales(prompt, seed):
    scales = (-2, 0, 1, 4, 10)
    images = [draw_pictures(model, prompt, seeds=[seed, seed + 1], guidance_scale=s) for s in scales]
    labels = [f"seed {seed}", f"seed {seed + 1}"]
    title = f"frozen model, '{prompt}', guidance scale"
    return figures.sheet(torch.stack(images, dim=1), labels, [f"{s}" for s in scales], title=title)


# %% tags=["gallery"]
prompts = choice(["a cat", "a rocket", "a red background", "a pizza"])
alt = "The frozen model's '{prompt}' with guidance from -2 to 10, seed {seed} and the next"
Explorer(draw_scales, alt, run=True, prompt=prompts, seed=slider(0, 0, 9, 1))

# %% [markdown]
# **What you saw.** Look for three things: at scale 0 the prompt is not read at all; with a growing
# scale the pictures get simpler and their colours harder (further out, and narrower); and at -2 the
# result is not "another thing" on purpose, just away from this one.
#
# ## What does a negative prompt do?
#
# It takes the place of the empty prompt: `eps_negative + s * (eps_cond - eps_negative)`. People use it
# to keep things out of a picture. So let us ask for a cat, and keep cats out.

# %%
both = Predict(
    "Prompt 'a cat', negative prompt 'a cat', scale 4. The model draws ...",
    ["anything but a cat", "a stronger cat", "the same as 'a cat' without guidance"],
)
both

# %% tags=["solution"]
both.choose("the same as 'a cat' without guidance")

# %%
seeds = [0, 1, 2]
options = {
    "guided, scale 4": {},
    "negative 'a cat', scale 4": {"negative_prompt": "a cat"},
    "no guidance, scale 1": {"guidance_scale": 1.0},
}
images = {name: draw_pictures(model, "a cat", seeds=seeds, **extra) for name, extra in options.items()}
_, cancelled, plain = images.values()
assert (cancelled - plain).abs().mean() < 0.02  # equal, up to rounding in the UNet

# %%
sheet = figures.sheet(
    torch.stack(list(images.values())),
    list(images),
    [f"seed {s}" for s in seeds],
    title="frozen model, prompt 'a cat'",
)
Reveal(both, Picture(sheet, "Cats in all three rows; the second and the third row are the same pictures"))

# %%
check("3.5", both)

# %% [markdown]
# A negative prompt is useful where it differs from the prompt: it moves the point that guidance starts
# from. Whoever calls the model chooses it, and can leave it out. To take a concept away for good,
# something in the *weights* has to change.


# %%
def draw_negative(prompt, negative):
    rows = [draw_pictures(model, prompt, seeds=seeds, negative_prompt=n) for n in ("", negative)]
    labels = ["no negative prompt", f"negative: '{negative}'"]
    title = f"frozen model, '{prompt}', scale 4"
    return figures.sheet(torch.stack(rows), labels, [f"seed {s}" for s in seeds], title=title)


prompts = choice(["a cat", "a rocket", "a pizza"])
negatives = choice(["monochrome style", "a red background", "a dog"])
alt = "'{prompt}' without and with the negative prompt '{negative}'"
Explorer(draw_negative, alt, run=True, prompt=prompts, negative=negatives)

# %% [markdown]
# ## In three sentences
#
# Guidance follows eps_null + s (eps_cond - eps_null); s = 1 is no guidance, and the paper's w is s - 1.
# It pushes samples out and together, and what they are drawn from is neither p(x) p(c given x)^s nor
# p(x given c)^s. In code: `esd_core.denoise.guide`, one line.
#
# Simplified here: two dimensions overstate the overshoot.
#
# **Where next.** Notebook 04 takes negative guidance out of sampling and makes a model learn it. Two
# questions to take along: if you could make the scale depend on x_t, where would you switch it off?
# What would guidance do if eps_null came from a *worse* model instead of from the empty prompt
# (autoguidance, arXiv 2406.02507)?
