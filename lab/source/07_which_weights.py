# %% [markdown]
# # Where in the weights is a cat, and where a style?
#
# 30 minutes, CPU. Needs: notebook 06 (an erasure and how to judge it). Afterwards you can
#
# - choose a train method and say what it can reach,
# - read attention maps and change per layer without reading too much into them,
# - trace which layers carry an erasure, by undoing one at a time.

# %% tags=["setup"]
from dataclasses import replace

import torch

from esd_core import Erasure, Probe, erase, generate, load_model, select
from esd_core.denoise import predict_pair
from esd_core.selection import count
from esd_core.study import figures
from esd_core.study.attention import attention_maps, layer_label
from esd_core.study.noise_predictions import Target, trajectory
from lab.charts import bars
from lab.checks import check, exercises
from lab.controls import Explorer, Picture, Predict, Reveal, choice
from lab.erasing_controls import live_config

model = load_model("emoji")
judge, frozen = Probe.of(model), dict(model.unet.named_parameters())
OBJECT, STYLE = "a cat", "monochrome style"

# %% [markdown]
# ## Who listens to the prompt?

# %%
listener = Predict(
    "The text states enter the UNet through ...",
    ["keys and values of cross-attention", "self-attention", "convolutions"],
)
listener

# %% tags=["solution"]
listener.choose("keys and values of cross-attention")

# %%
text, heard = model.encode([OBJECT]), []
layers = {n: m for n, m in model.unet.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
hooks = [
    m.register_forward_pre_hook(lambda _, given, n=n: heard.append(n) if given[0] is text else None)
    for n, m in layers.items()
]

# %%
model.unet(torch.zeros(1, 4, 16, 16), 500, encoder_hidden_states=text)  # frozen, x_t = 0, t = 500
for hook in hooks:
    hook.remove()
strict = {n.removesuffix(".weight") for n in select(model.unet, "esd-x-strict")}
print(f"{len(heard)} of {len(layers)} layers are given the text, for example {heard[0]}")
assert set(heard) == strict

# %%
check("7.1", listener)

# %% [markdown]
# A *train method* is a rule that selects weights. All edited weights come from the frozen model's own
# examples of "a cat"; only the selection differs. (Methods that change many weights take smaller
# steps: at the large ones they ruin the model.)

# %%
METHODS = ("esd-x", "esd-u")
total = sum(p.numel() for p in frozen.values())
for method in ("esd-x-strict", "esd-x", "selfattn", "esd-u", "full"):
    share = count(model.unet, method) / total
    print(f"{method:13} {share:6.1%} of the weights")

# %%
runs, errors, examples = {}, {}, None
for method in METHODS:
    for step in erase(model, live_config(OBJECT, method, 1.0, 20), examples=examples):
        examples = step.examples  # the same for all: drawn once by the frozen model
    runs[method], errors[method] = step.erasure, step.held_out_error()
prompts = [OBJECT, "a lion", "a dog", "a rocket"]
unets = {"frozen": None, **{method: run.apply(model) for method, run in runs.items()}}
rows = [generate(model, prompts, seeds=[3] * 4, unet=u, num_inference_steps=12) for u in unets.values()]

# %%
Picture(
    figures.sheet(torch.stack(rows), list(unets), prompts, title="20 updates, eta 1, seed 3"),
    "A cat and three others after erasing a cat from two selections of weights",
)

# %%
print("error on held-out examples, of the frozen model's:", {m: round(e, 2) for m, e in errors.items()})
assert errors["esd-x"] < 0.6

# %% [markdown]
# The error fell for esd-u as well, and its cat is still a cat. How can that be? Guidance amplifies what the
# *word* adds, eps_concept - eps_null. Let us see what each edited model's word adds, along what the frozen
# model's adds: 1 is a cat, 0 nothing, below 0 the opposite of a cat.

# %%
points = trajectory(model, Target(OBJECT), 3)  # x_t: frozen model's own trajectory, seed 3
null, concept = model.encode([""]), model.encode([OBJECT])


def added(unet):  # by the word, at every point but the noisiest
    with torch.no_grad():
        both = predict_pair(unet or model.unet, points.x_t[1:], points.t[1:], null, concept)
    return both[1] - both[0]


d = added(None)
along = {name: ((added(u) * d).sum() / d.square().sum()).item() for name, u in unets.items()}
assert along["esd-x"] < 0.5 < along["esd-u"]
{name: round(share, 2) for name, share in along.items()}

# %% [markdown]
# **What you saw.** esd-x is a few percent of the weights and enough for something that is *named*.
# Self-attention and convolutions never see the word: they can only change how any picture with such
# shapes is drawn, so eps_null moves along with eps_concept, and what the word adds stays. A smaller error
# is no erasure, again. The paper trains esd-u for what appears without being named; users of the authors'
# code saw similar concepts vanish with it, and fewer with esd-x (issue 13 of rohitgandikota/erasing).
# Numbers of one run and one seed: try others before you believe an order.
#
# ## What happened to the weights that were not selected?

# %%
others = Predict(
    "Weights that the method did not select are ...",
    ["the same tensors in memory", "equal copies", "moved a little, like the rest"],
)
others

# %% tags=["solution"]
others.choose("the same tensors in memory")

# %%
edited = runs["esd-x"].apply(model)
shared = [n for n, p in edited.named_parameters() if p is frozen[n]]
print(f"{len(shared)} of {len(frozen)} tensors are the very same object")
assert set(frozen) - set(shared) == set(select(model.unet, "esd-x"))
check("7.2", others)

# %% [markdown]
# How far did each selected tensor move? Give the change in units of the frozen tensor's length.


# %%
def relative_change(frozen, trained):
    ### BEGIN SOLUTION
    return (trained - frozen).norm() / frozen.norm()
    ### END SOLUTION


# %%
verdict = check("7.3", relative_change)
if not verdict:
    relative_change = exercises("07")["7.3"].answer  # so that the rest runs; come back to it
verdict

# %% [markdown]
# Now erase a style the same way, by the prompt "monochrome style" alone (`live` would also show it on
# objects, which erases it further).

# %%
*_, step = erase(model, replace(live_config(STYLE, "esd-x", 1.0, 20), from_objects="none"))
erasures = {OBJECT: runs["esd-x"], STYLE: step.erasure}
LABELS = {n: layer_label(n.partition(".attn2.")[0]) for n in step.erasure.tensors}
order = sorted(set(LABELS.values()))  # "down ..." comes before "mid ..." before "up ..."


def moved(erasure, label):
    changed = [n for n in erasure.tensors if LABELS[n] == label]
    both = (torch.cat([w[n].detach().flatten() for n in changed]) for w in (frozen, erasure.tensors))
    return relative_change(*both).item()


# %%
series = {name: [moved(e, label) for label in order] for name, e in erasures.items()}
Picture(
    bars(order, series, "How far did each cross-attention layer move?", "relative change"),
    "Relative change of the cross-attention layers by the erasure of an object and of a style",
)

# %% [markdown]
# **What you saw.** Every layer moved, by similar amounts: Adam moves each weight by about the learning
# rate in every update, wherever it is. A large change is therefore no proof of importance. For that
# we need an experiment.
#
# ## Where do the words look now?

# %%
total_attention = Predict(
    "Erased. Summed over all tokens, the attention of one place of the picture ...",
    ["it is 1 as before", "it is below 1, the word is gone", "it depends on the place"],
)
total_attention

# %% tags=["solution"]
total_attention.choose("it is 1 as before")

# %%
x_t, t = points.x_t[8:9], points.t[8:9]  # of the same trajectory
pair = {"frozen": model.unet, "edited": edited}
seen = {name: attention_maps(model, OBJECT, x_t, t, unet) for name, unet in pair.items()}
maps = torch.stack([own.of() for own in seen.values()])  # (2, tokens, h, w), mean of all layers
colours = torch.stack([torch.stack([figures.sequential(m, maps.max()) for m in row]) for row in maps])
colours = colours.repeat_interleave(6, -1).repeat_interleave(6, -2)
sheet = figures.sheet(
    colours,
    list(seen),
    seen["frozen"].tokens,
    scale=1,
    title=f"attention, mean of all layers, prompt {OBJECT!r}, t = {int(t)}; x_t: the frozen model's",
)

# %%
Reveal(total_attention, Picture(sheet, "Maps of attention per token, frozen and edited; bright is 1"))

# %%
assert torch.allclose(maps.sum(1), torch.ones_like(maps.sum(1)), atol=1e-4)
for name, row in zip(seen, maps.mean((2, 3)), strict=True):
    print(name, {token: round(share.item(), 2) for token, share in zip(seen[name].tokens, row, strict=True)})
check("7.4", total_attention)

# %% [markdown]
# **What you saw.** Both rows add up to 1 at every place. A token whose map looks as before may still
# do something else: the map shows the query-key match (*where*), not the value that is fetched
# (*what*). Keep that in mind below.
#
# ## Which part carries the erasure?
#
# Undo it in one part: all changes stay but those of that part. If the concept comes back, the part
# carried it. From a list of parameter names, return those whose change stays.


# %%
def staying(names, part):
    ### BEGIN SOLUTION
    return [n for n in names if part not in n]
    ### END SOLUTION


# %%
verdict = check("7.5", staying)
if not verdict:
    staying = exercises("07")["7.5"].answer
verdict

# %%
THINGS = ("cat", "dog", "pizza", "tree", "house", "heart")
PROMPTS = {OBJECT: [OBJECT] * 6, STYLE: [f"a {thing} in {STYLE}" for thing in THINGS]}


def partly(name, names):
    """The frozen UNet with only these tensors of an erasure."""
    whole = erasures[name]
    return Erasure({n: whole.tensors[n] for n in names}, whole.base).apply(model) if names else None


def presence(name, unet):
    pictures = generate(model, PROMPTS[name], seeds=range(6), unet=unet, num_inference_steps=8)
    return judge.presence(pictures, judge.concept(name)).mean().item()


# %%
full = {name: presence(name, e.apply(model)) for name, e in erasures.items()}
base = {name: presence(name, None) for name in erasures}
for name in erasures:
    print(f"{name:17} presence {base[name]:.2f} -> {full[name]:.2f}")
    assert full[name] < 0.9 * base[name]

# %% [markdown]
# Commit yourself before you see it: is an erasure held by one layer, or by all a little?

# %%
guess = Predict("Undoing one layer brings back most of ...", ["the style", "the object", "both", "neither"])
guess

# %% tags=["solution"]
guess.choose("both")


# %%
def back(name, kept):
    """Share of the erasure that is undone when only `kept` stays: 0 none, 1 all of it."""
    return (presence(name, partly(name, kept)) - full[name]) / (base[name] - full[name])


parts = {label: next(n for n in LABELS if LABELS[n] == label).partition("attn2")[0] for label in order}

# %%
undone = {
    name: [back(name, staying(e.tensors, parts[label])) for label in order] for name, e in erasures.items()
}
chart = bars(order, undone, "Share of the erasure that goes when one layer is restored", "share undone")
Reveal(guess, Picture(chart, "How much of the object and of the style returns with each layer"))

# %%
assert min(max(shares) for shares in undone.values()) > 0.7
for name, shares in undone.items():
    ranked = sorted(zip(shares, order, strict=True), reverse=True)
    print(f"{name:17}", ", ".join(f"{label} {share:.0%}" for share, label in ranked[:3]))

# %% [markdown]
# **What you saw.** One layer undoes most of the object's erasure, another one the style's. Compare these bars
# with the flat chart of changes above: layers that moved equally far do not count equally.
# Bars need not add up to 1, for layers work together. Negative ones say that the erasure got stronger;
# with six pictures each, small bars of either sign are noise.
#
# Is the layer that undoes it enough to do it? The opposite experiment: only the layers that undid most of
# the style are edited, one of them, two, four, all.

# %%
ranked = [label for _, label in sorted(zip(undone[STYLE], order, strict=True), reverse=True)]
done = {n: 1 - back(STYLE, [t for t in LABELS if LABELS[t] in ranked[:n]]) for n in (1, 2, 4)}
done[len(order)] = 1.0
title = f"Only the layers that undo most are edited: {ranked[0]}, then {ranked[1]}, ..."
Picture(
    bars([f"{n} of {len(order)}" for n in done], {STYLE: list(done.values())}, title, "share done"),
    "How much of the style erasure the one, two and four most important layers do by themselves",
)

# %%
print({f"{n} of {len(order)} layers": f"{share:.0%}" for n, share in done.items()})
assert done[1] < 0.9  # necessary is not sufficient

# %% [markdown]
# ## Where or what?
#
# The same experiment across layers: queries, keys, values, output.

# %%
KINDS = ["to_q", "to_k", "to_v", "to_out"]
by_kind = {
    name: [back(name, staying(e.tensors, f".{kind}.")) for kind in KINDS] for name, e in erasures.items()
}

# %%
Picture(
    bars(
        KINDS, by_kind, "Share of the erasure that goes when one kind of matrix is restored", "share undone"
    ),
    "Queries, keys, values and outputs: how much of the erasures each undoes",
)

# %%
top = {name: KINDS[max(range(4), key=shares.__getitem__)] for name, shares in by_kind.items()}
print("counts most:", top)


# %%
def with_part_restored(erased, part):
    kept = staying(erasures[erased].tensors, parts.get(part, f".{part}."))
    pictures = generate(
        model, PROMPTS[erased][:4], seeds=range(4), unet=partly(erased, kept), num_inference_steps=12
    )
    return figures.sheet(pictures[None], [f"{part} restored"], PROMPTS[erased][:4])


# %%
Explorer(
    with_part_restored,
    "Pictures after erasing {erased} with {part} restored",
    erased=choice([STYLE, OBJECT]),
    part=choice([*order, *KINDS]),
)

# %% [markdown]
# **What you saw.** Matrices that decide *what* is fetched (values, outputs) against those that decide
# *where* (queries, keys): read off which undo more. Attention maps show only the latter, so an
# erasure can hide from them.
#
# ## In three sentences
#
# A train method is a list of tensors; all others are shared with the frozen model. How far a layer
# moved says little, restoring it says what it carried. Needed and enough are different questions, and
# one model's answer is not a law: `Erasure(subset_of_tensors, base)` asks it of any.
#
# ## Where next
#
# 1. Repeat the tracing with "openmoji style" and "a rocket". Do styles agree on their layers, and
#    objects on theirs?
# 2. Train only the two layers that count most for the style (a new rule in `esd_core.selection`). Is
#    the erasure as strong, and do other styles suffer less?
