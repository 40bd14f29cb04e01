# %% [markdown]
# # Does it still work at a thousand times the size?
#
# 15 minutes to read, without a GPU; with one, the time that 200 updates take on it. Needs: 06 Erase it
# live. Afterwards you can
#
# - run this lab's calls on Stable Diffusion 1.4,
# - say where its memory and its time go,
# - name what the small model did not tell you.

# %% tags=["setup"]
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from esd_core import Probe, compare, erase, generate, load_model, preset
from esd_core.selection import count
from esd_core.study.figures import comparison_sheet, loss_figure
from lab.checks import check
from lab.controls import Picture, Predict

# %% [markdown]
# ## Which model have you got?
#
# Stable Diffusion 1.4 takes a CUDA device and a download of its weights (their licence, CreativeML
# OpenRAIL-M, forbids some uses; read it). Where either is missing, the same cells run on the embedded
# model and say so.


# %%
def load_largest():
    if not torch.cuda.is_available():
        return load_model("emoji"), "no CUDA device here"
    try:
        return load_model("CompVis/stable-diffusion-v1-4"), None
    except ValueError as error:
        return load_model("emoji"), str(error)


# %%
model, reason = load_largest()
large = reason is None
if not large:
    print(f"Skipping Stable Diffusion: {reason}. What follows runs on the embedded model.")
print(f"{model.name}: {model.image_size} pixels, {model.unet.dtype} on {model.device}")

# %% [markdown]
# ## How much larger is it?
#
# We need no weights to count them: on torch's "meta" device a network has shapes and no numbers. These
# are the sizes in Stable Diffusion 1.4's `unet/config.json`.

# %%
with torch.device("meta"):
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
    )

# %%
everything = sum(p.numel() for p in unet.parameters())
ours = sum(p.numel() for p in model.unet.parameters())
cross = count(unet, "esd-x")
assert (everything, cross) == (859_520_964, 43_962_560)
print(f"Stable Diffusion 1.4: {everything:,} weights, {cross:,} of them trained by esd-x")
print(f"this notebook's model: {ours:,}, {count(model.unet, 'esd-x'):,}")

# %% [markdown]
# And one prediction, in multiplications and additions:


# %%
def operations(unet, side, tokens, width):
    device = unet.device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        x_t = torch.zeros(1, 4, side, side, device=device, dtype=unet.dtype)
        states = torch.zeros(1, tokens, width, device=device, dtype=unet.dtype)
        unet(x_t, torch.zeros((), device=device), states)
    return counter.get_total_flops()


# %%
small = load_model("emoji", device="cpu")
times = operations(unet, 64, 77, 768) / operations(small.unet, 16, *small.encode([""]).shape[1:])
weights = everything / sum(p.numel() for p in small.unet.parameters())
print(
    f"Stable Diffusion 1.4 has {weights:.0f} times the embedded model's weights and takes {times:.0f} times its work"
)
assert 500 < times < 2000

# %% [markdown]
# ## Where does the memory go?
#
# Frozen weights can be in half precision, two bytes each. What is trained is in float32, four bytes: an
# update of 0.00001 would vanish in the rounding of a half-precision weight of 0.1. Each trained weight also
# has a gradient, and Adam keeps two running means of it. How many gigabytes (10^9 bytes) do the weights
# that esd-x trains take, with all that goes with them?

# %%
gigabytes = None
### BEGIN SOLUTION
gigabytes = cross * 4 * (1 + 1 + 2) / 1e9  # weight, gradient, Adam's two means
### END SOLUTION

# %%
check("11.1", gigabytes)

# %%
weight = torch.tensor(0.1, dtype=torch.bfloat16)
assert weight + 1e-5 == weight  # an update lost in rounding
for method in ("esd-x-strict", "esd-x", "esd-u", "full"):
    trained = count(unet, method)
    print(
        f"{method:13} {2 * everything / 1e9:.2f} GB frozen + {16 * trained / 1e9:5.2f} GB for {trained:,} trained"
    )

# %% [markdown]
# That is without activations, which grow with the batch and with the picture's area. (The *work* of
# self-attention, where every place looks at every other, grows with the fourth power of its side.) Text encoder and VAE come on top. esd_core keeps one copy of all
# that is not trained, so an edited model costs its changed weights only.
#
# ## Where does the time go?
#
# The authors' loop makes one x_t per update: it starts from noise, samples with guidance on a schedule of
# 50 steps, and stops at a step drawn at random. How many predictions does that take on average, before the
# update has even begun?

# %%
drawing = Predict("Predictions to draw one x_t, on average, about ...", ["1", "25", "50", "100"])
drawing

# %% tags=["solution"]
drawing.choose("50")

# %%
check("11.2", drawing)

# %%
paper, live = preset("paper", "a cat"), preset("live", "a cat", train_method="esd-x")
for name, config in {"paper": paper, "live": live}.items():
    print(f"{name:5} {config.iterations:4} updates, x_t: {config.points} of a {config.x_t_source} trajectory")
assert (paper.points, live.points) == ("last", "all")

# %% [markdown]
# `live` uses each point of a few trajectories and keeps the predictions made on the way; notebook 05 does
# so by hand. Its learning rate was tuned on the embedded model. For Stable Diffusion we take the settings
# of the authors' 2025 script, which uses 1/30 of that rate. (`live-sd`, which begins with an edit that is
# solved for, notebook 08's, and trains its content in short steps, has not met Stable Diffusion yet.)
#
# ## The same calls

# %%
if large:
    config = preset("official-2025", "Van Gogh")
    prompts = ["a road at night by Van Gogh", "a road at night by Claude Monet", "a photo of a dog"]
else:
    config = preset("live", "a cat", train_method="esd-x")
    prompts = ["a cat", "a dog", "a rocket"]
print(config.learning_rate, config.iterations, "updates of", config.batch_size)

# %%
losses = []
for step in erase(model, config):
    losses.append(step.loss)
erasure = step.erasure
print(f"{len(erasure.tensors)} tensors changed, the rest is shared with the frozen model")
if large:
    print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
Picture(loss_figure(losses), "Loss of each update")

# %% tags=["gallery"]
edited = erasure.apply(model)  # trained; model.unet stays frozen
sampler = dict(guidance_scale=7.5, num_inference_steps=50) if large else dict(guidance_scale=4.0)
comparison = compare(model, edited, prompts, seeds=[0, 1], **sampler)
Picture(comparison_sheet(comparison), f"Same noise, frozen model above, edited below: {', '.join(prompts)}")


# %%
def named_right(unet):
    judge, prompt = Probe.of(model), config.concepts[0].concept
    pictures = generate(model, prompt, seeds=range(8), unet=unet)
    return judge.accuracy(pictures, [judge.concept(prompt)] * 8)


if model.clip_path:  # the embedded model has a CLIP of its own
    before, after = named_right(None), named_right(edited)
    print(f"pictures of {config.concepts[0].concept} named right: {before:.0%} -> {after:.0%}")
    assert after <= before / 2

# %% [markdown]
# **What you saw.** Not one call is different: `load_model`, `erase`, `apply`, `compare`. What differs is a
# preset and a wait.
#
# ## What the small model did not tell you
#
# - *Words.* It knows a few hundred and each means one thing. Stable Diffusion reads 49,408 tokens, and a
#   concept has many names, misspellings and relatives: notebook 09's attacks have far more room.
# - *Rate.* 0.0015 erases the embedded model in seconds. The authors' scripts use 0.00001 (2023, 1000 updates)
#   and 0.00005 (2025, 200 updates) on this one.
# - *Judging.* The embedded model has a CLIP for its own vocabulary. For Stable Diffusion use another model
#   as the judge, and look at pictures.
# - *Half precision.* A seed draws almost, not exactly, the picture it draws in float32. "No update changes
#   nothing, bit for bit" holds on one device with one precision.

# %% [markdown]
# ## In three sentences
#
# Everything here is the same code at about a thousand times the work. Memory goes to frozen weights first,
# to what is trained second, and to activations as pictures grow. Time goes into drawing x_t, unless
# trajectories are reused.
#
# Not claimed: this project has not measured an erasure of Stable Diffusion 1.4; without a GPU this page shows
# the embedded model. Sources: Gandikota et al., *Erasing Concepts from Diffusion Models* (arXiv 2303.07345)
# and the authors' `train-scripts/train-esd.py` and `esd_sd.py`; sizes from the model's `unet/config.json`.
#
# **Where next.** Does reusing trajectories (`points="all"`) erase Stable Diffusion as well as one x_t per
# update, at equal updates? Which of your concept's synonyms does the erasure of one name reach?
