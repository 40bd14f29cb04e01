# %% [markdown]
# # What does a denoiser know?
#
# 25 minutes, CPU. Needs: a little calculus. Afterwards you can
#
# - noise a point and say what each factor does,
# - tell a score from a probability, and check it with a finite difference,
# - turn a noise prediction into a score and back.

# %% tags=["setup"]
import torch

from esd_core.plane.mixture import ALPHA_BAR, add_noise, noise, ring
from lab import plane_figures as fields
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, Reveal, slider

world = ring()  # three Gaussians in the plane: the data, known exactly
random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## What happens to data as noise is added?
#
# Our data are points, not pictures: three clusters, whose formula we know. What a large model has to
# learn from examples can be computed here. Noising mixes a clean point with fresh Gaussian noise:
#
#     x_t = sqrt(alpha_bar) * x_0 + sqrt(1 - alpha_bar) * eps
#
# `alpha_bar` falls from almost 1 (t = 0) to almost 0 (t = 999). Write it down.


# %%
def noised(x_0, eps, alpha_bar):
    ### BEGIN SOLUTION
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
    ### END SOLUTION


# %%
check("1.1", noised)

# %% [markdown]
# From here on the library's `add_noise` does this. Move the slider: where do the clusters merge?

# %%
x_0, k = world.draw(600, generator=random)
eps = noise(600, random)


def draw_noised(t):
    figure, (axis,) = fields.panels(1, titles=[f"x_t at t = {t}"])
    fields.scatter(axis, add_noise(x_0, eps, ALPHA_BAR[t]), k)
    return figure


Explorer(draw_noised, "600 points of three classes, noised to t = {t}", t=slider(200, 0, 999, 1))

# %% [markdown]
# **What you saw.** The clusters shrink towards the middle and blur until they are one cloud. A model
# that draws starts there, at t = 999, and goes back step by step.
#
# **What are the images being fine-tuned on, then, when it all starts as noise?** On none that anybody
# supplies. What fine-tuning needs is noisy points x_t to ask the model about. One way to get them is
# the slider above: take pictures and noise them. Erasing usually takes the other: let the model draw
# from pure noise, stop on the way, and use its own half-finished drawing as x_t (notebook 05). No clean
# picture occurs in the loss either way (notebook 04).
#
# ## Which way does the score point?

# %%
prediction = Predict(
    "At a noisy point, grad log p_t points ...",
    ["towards more data", "away from the data", "along a line of equal density"],
)
prediction

# %% tags=["solution"]
prediction.choose("towards more data")

# %% tags=["gallery"]
t = 300
x_t = add_noise(x_0, eps, ALPHA_BAR[t])[:24]  # source of x_t: data, noised
score = world.score(x_t, ALPHA_BAR[t])
figure, (axis,) = fields.panels(1, titles=[f"exact score at t = {t}"])
fields.density(axis, world, t)
fields.arrows(axis, x_t, {"score": score}, scale=0.25)
picture = Picture(figure, "Arrows of the score at 24 noisy points; they point at the nearest cluster")
Reveal(prediction, picture)

# %%
check("1.2", prediction)

# %% [markdown]
# ## Is the score a probability?
#
# A common misreading: "the score is the log-probability of the picture". It is the *slope* of that: how
# log p changes as x_t moves. If so, a finite difference must agree.

# %%
h = 1e-5
step = torch.tensor([h, 0.0], dtype=torch.float64)
up, down = (world.log_density(x_t + s * step, ALPHA_BAR[t]) for s in (1, -1))
by_hand = (up - down) / (2 * h)
assert torch.allclose(by_hand, score[:, 0], atol=1e-5)
assert score.shape == x_t.shape  # a vector at every point, not one number per picture
by_hand[:3], score[:3, 0]

# %% [markdown]
# Suppose someone adds 5 to log p everywhere. What happens to the score?

# %%
what_happens = Predict("The score ...", ["it grows by 5", "it is multiplied", "nothing changes"])
what_happens

# %% tags=["solution"]
what_happens.choose("nothing changes")

# %%
shifted = (up + 5 - (down + 5)) / (2 * h)
assert torch.allclose(shifted, by_hand, atol=1e-5)
check("1.3", what_happens)

# %% [markdown]
# ## From score to noise and back
#
# A UNet does not return the score but `eps`, its guess of the noise. With sigma = sqrt(1 - alpha_bar),
#
#     eps = -sigma * score


# %%
def eps_from_score(score, alpha_bar):
    ### BEGIN SOLUTION
    return -(1 - alpha_bar).sqrt() * score
    ### END SOLUTION


# %%
check("1.4", eps_from_score)

# %%
ideal = world.eps(x_t, ALPHA_BAR[t])  # exact, no class; the mean of all noise that could be in x_t
assert torch.allclose(ideal, -(1 - ALPHA_BAR[t]).sqrt() * score)
figure, (axis,) = fields.panels(1, titles=["noise that was added, and its best guess"])
fields.arrows(axis, x_t, {"eps, the truth": eps[:24], "ideal prediction": ideal}, scale=0.4)
Picture(figure, "True noise and ideal prediction at 24 points; they agree only on average")

# %% [markdown]
# **What you saw.** The ideal prediction is not the noise that was added. Many clean points could have
# become this x_t; the best guess is their average. A loss of zero is therefore impossible.
#
# ## In three sentences
#
# Noising mixes data with noise at a rate set by t. The score is the slope of log p_t, a vector as
# large as the picture. A noise prediction is the score times -sigma: `esd_core.denoise.to_score`.
#
# Simplified here: two dimensions and known data.
#
# **Where next.** Notebook 02 asks the same model twice, with and without a class. Two questions to take
# along: how does a network, which never sees p_t, learn its slope (what did the last picture say about
# its loss)? And where are the arrows of the score longest, near the data or far from them, and why?
