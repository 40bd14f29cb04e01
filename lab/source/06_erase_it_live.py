# %% [markdown]
# # What goes, and what else?
#
# 25 minutes, CPU. Needs: notebook 05 (the loop). Afterwards you can
#
# - erase with settings of your own and judge the run by more than its loss,
# - say how an erasure differs from a negative prompt,
# - turn an erasure up, down and backwards.

# %% tags=["setup"]
import torch

from esd_core import Probe, compare, erasing_target, generate, load_model, probe
from esd_core.denoise import guide
from esd_core.study import figures
from lab.charts import bars, curves
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, Reveal, choice, slider
from lab.erasing_controls import LiveErasure

model, SEEDS = load_model("emoji"), range(4)
judge = Probe.of(model)  # the model's own CLIP: how much does a picture resemble a phrase?

# %% [markdown]
# ## What do nought updates change?
#
# In a moment you will erase. First: an edited copy that has made no update draws, from the same
# noise, pictures that are ...

# %%
nought = Predict(
    "After 0 updates the pictures are ...",
    ["the same, bit for bit", "alike, with small differences", "worse"],
)
nought

# %% tags=["solution"]
nought.choose("the same, bit for bit")

# %% [markdown]
# This is the experiment. The upper row will be the frozen model's, the lower one the edited model's, all
# from one noise. Next to the concept stand two neighbours and an unrelated object.
# The kernel is busy while it trains: the square button above stops it and keeps what was learned.


# %%
def watch(phrase):
    concept = judge.concept(phrase)
    others = judge.neighbours(concept, 2) + judge.unrelated(concept, 1)
    return [phrase, *(c.phrase for c in others)]


# %%
live = LiveErasure(
    model,
    {
        "concept": choice(["a cat", "a rocket", "a church", "a pizza", "a penguin", "a tree"]),
        "method": choice(["esd-x", "esd-x-strict", "selfattn", "esd-u"]),
        "eta": slider(1.0, 0.0, 3.0, 0.25),
        "updates": slider(0, 0, 60, 1),
    },
    watch,
    every=8,
)

# %%
live.run()
frozen = generate(model, "a cat", seeds=SEEDS, num_inference_steps=12)
copied = generate(model, "a cat", seeds=SEEDS, unet=live.erasure.apply(model), num_inference_steps=12)
assert torch.equal(frozen, copied)
check("6.1", nought)

# %% [markdown]
# ## What do twenty change?
#
# The loss falls from the first update on. Which pictures change first, and is that when the curve is
# steepest? Afterwards try the other concepts and methods, with **Run**.

# %%
live.knobs["updates"].value = 20
live.run()
live

# %%
erasure = live.erasure
edited = erasure.apply(model)  # trained: esd-x, eta 1; shares all other weights with the frozen one
CONCEPT, cat = "a cat", judge.concept("a cat")
print(
    f"{len(erasure.tensors)} tensors changed; error on held-out examples "
    f"{live.errors[0][1]:.2f} -> {live.errors[-1][1]:.2f} of the frozen model's"
)
assert live.errors[-1][1] < 0.9

# %% [markdown]
# One picture per prompt proves little. `probe` draws several, also of the empty prompt, and asks CLIP
# how much they resemble the concept: 0 is "no more than anything else".

# %%
groups = {
    name: probe(model, CONCEPT, unet=unet, seeds=SEEDS, num_inference_steps=8)
    for name, unet in (("frozen", None), ("edited", edited))
}
rows = {name: [score.presence for score in scores] for name, scores in groups.items()}
labels = [score.group for score in groups["frozen"]]
Picture(
    bars(labels, rows, "How much of a cat is in the pictures?", "presence of the concept"),
    "Presence of a cat before and after in pictures of four groups of prompts",
)

# %%
for before, after in zip(groups["frozen"][:3], groups["edited"][:3], strict=True):
    right = f"{before.accuracy:4.0%} -> {after.accuracy:4.0%}"
    print(f"{before.group:11} named right: {right}   ({', '.join(before.prompts)})")
concept_before, concept_after = groups["frozen"][0], groups["edited"][0]
assert concept_after.presence < concept_before.presence
assert concept_after.accuracy <= 0.25 and groups["edited"][1].accuracy < groups["frozen"][1].accuracy
assert groups["edited"][2].accuracy >= 0.4 * groups["frozen"][2].accuracy

# %% [markdown]
# **What you saw.** Hardly a picture of "a cat" is named a cat any more. Resemblance falls less: something
# orange with two ears resembles a cat, and even the empty prompt's pictures do a little. And the
# neighbours pay, for they share words, shapes and weights with the cat: fewer of them are named right.
# CLIP is a rough judge with few pictures here; notebook 09 asks harder. At eta 0 the target is eps_null
# itself, and "a cat" comes to mean what the empty prompt means.
#
# ## How far away is it sent?
#
# Suppose training succeeds: eps_edited equals its target, and eps_null has not moved. Someone samples
# the edited model with a guidance scale w. Which scale of the *frozen* model gives the same
# prediction?


# %%
def same_scale(guidance_scale, eta):
    ### BEGIN SOLUTION
    return -guidance_scale * eta
    ### END SOLUTION


# %%
check("6.2", same_scale)

# %%
eps_null, eps_concept = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
target = erasing_target(eps_null, eps_concept, 1.0)
by_edited = guide(eps_null, target, 4.0)
assert torch.allclose(by_edited, guide(eps_null, eps_concept, -4.0), atol=1e-4)
rows = [
    generate(model, CONCEPT, seeds=SEEDS, unet=unet, guidance_scale=w, num_inference_steps=12)
    for unet, w in ((None, 4.0), (edited, 4.0), (None, -4.0))
]
names = ["frozen, guidance 4", "edited, guidance 4", "frozen, guidance -4"]

# %%
Picture(
    figures.sheet(torch.stack(rows), names, [f"seed {s}" for s in SEEDS], title=f"prompt {CONCEPT!r}"),
    "Cats by the frozen model, and what the edited and the negatively guided model draw instead",
)

# %% [markdown]
# **What you saw.** The second row has lost most of its cats (count them), the third has none. The two need
# not look alike: twenty updates do not reach the target, and eps_null of the edited model moves too.
#
# ## Why not just a negative prompt?
#
# It costs no training: `negative_prompt` takes the place of the empty prompt in guidance. Now ask for
# "a cat" and put "a cat" into the negative prompt.

# %%
trap = Predict(
    "The frozen model draws ...",
    ["nothing but noise", "what the empty prompt draws", "a cat, as if there were no guidance"],
)
trap

# %% tags=["solution"]
trap.choose("a cat, as if there were no guidance")

# %%
result = compare(
    model,
    edited,
    [CONCEPT, "a cat in noto style", "a dog"],
    seeds=[0, 1],
    negative_prompt=CONCEPT,
    num_inference_steps=12,
)
Reveal(trap, Picture(figures.comparison_sheet(result), "Base, erased and negative prompt, same noise"))

# %%
assert torch.equal(guide(eps_concept, eps_concept, 4.0), eps_concept)  # c + w (c - c)
negative = generate(model, CONCEPT, seeds=SEEDS, negative_prompt=CONCEPT, num_inference_steps=12)
plain = generate(model, CONCEPT, seeds=SEEDS, guidance_scale=1.0, num_inference_steps=12)
print(f"largest pixel difference to guidance 1: {(negative - plain).abs().max().item():.1e}")
assert (negative - plain).abs().max() < 0.02
check("6.3", trap)

# %% [markdown]
# **What you saw.** Negative prompts act per call, and anyone can leave them out. The erasure sits in
# the weights: it acts whatever is typed. With other words in the prompt the negative prompt does push
# away from cats; as a guard it depends on who types.
#
# ## Can it be half undone?
#
# A file of trained weights W' next to frozen ones W. `strength` is 0 for W and 1 for W'.


# %%
def blend(frozen, trained, strength):
    ### BEGIN SOLUTION
    return frozen + strength * (trained - frozen)
    ### END SOLUTION


# %%
check("6.4", blend)

# %%
strengths = [-1.0, 0.0, 0.5, 1.0, 2.0]
rows, presence = [], []
for strength in strengths:
    unet = erasure.apply(model, strength)
    rows.append(generate(model, CONCEPT, seeds=SEEDS, unet=unet, num_inference_steps=12))
    presence.append(judge.presence(rows[-1], cat).mean().item())
assert torch.equal(rows[1], frozen)  # strength 0
assert presence[3] < presence[1] and presence[4] < presence[1]

# %% tags=["gallery"]
Picture(
    figures.sheet(
        torch.stack(rows),
        [f"strength {s:g}" for s in strengths],
        [f"seed {s}" for s in SEEDS],
        title=f"edited at a strength, prompt {CONCEPT!r}",
    ),
    "The prompt drawn with the erasure backwards, off, half, full and double",
)

# %%
Picture(
    curves({"a cat": (strengths, presence)}, "How much of a cat is left?", "strength", "presence", mark=1),
    "Presence of the concept against strength, from -1 to 2",
)


# %%
def at_strength(strength, prompt):
    unet = erasure.apply(model, strength)
    pictures = generate(model, prompt, seeds=SEEDS, unet=unet, num_inference_steps=12)
    return figures.sheet(pictures[None], [f"strength {strength:g}"], [f"seed {s}" for s in SEEDS])


Explorer(
    at_strength,
    "Four pictures of {prompt} by the edited model at strength {strength}",
    strength=slider(1.0, -1.0, 2.0, 0.25),
    prompt=choice([CONCEPT, "a dog", "a lion", "a rocket", ""]),
)

# %% [markdown]
# **What you saw.** Between 0 and 1 the cat leaves by degrees. Beyond 1 the pictures go on, away from the
# cat: at 2 CLIP finds less of it than at 1. Below 0 the weights walk the other way, which makes no more of
# a cat but a broken one. Look at several seeds, because nothing was ever trained out there.
#
# ## In three sentences
#
# Judge an erasure by its concept, its neighbours and unrelated prompts, from the same noise. A
# negative prompt is a habit of the caller, an erasure a property of the weights. Its strength is a
# straight line in weight space: `erasure.apply(model, strength)`.
#
# ## Where next
#
# 1. At which number of updates has "a cat" gone while its neighbours still look right? Is it the same
#    number for the rocket?
# 2. Erase with eta 3 in a third of the updates. Is that the same erasure as eta 1?
