# %% [markdown]
# # Why train, if the weights can be edited directly?
#
# 40 minutes, CPU. Needs: notebook 06 (erase it live), least squares. Afterwards you can
#
# - derive the smallest change of a matrix that gives one input a new output,
# - say what ROME, TIME and UCE add to it, and what strength 1 + eta means for such an edit,
# - compare ways of erasing fairly, at equal erasure, and join two of them.

# %% tags=["setup"]
import torch

from esd_core import Probe, closed_form_edit, erase, generate, load_model, preset, select
from esd_core.denoise import predict
from esd_core.placement import covariance
from esd_core.prompts import held
from esd_core.study import figures
from lab.charts import bars, curves
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, choice, slider

model = load_model("emoji")
judge = Probe.of(model)  # the model's own CLIP

# %% [markdown]
# ## Where does a word enter the picture?
#
# A prompt becomes a list of vectors, its text states. The UNet reads them in cross-attention only,
# and there through two matrices per layer: keys and values, `W c`. No other weight ever sees a word.

# %%
doors = select(model.unet, "esd-x-strict")
size = sum(model.unet.get_parameter(name).numel() for name in doors)
total = sum(p.numel() for p in model.unet.parameters())
print(f"{len(doors)} matrices, {size:,} of {total:,} numbers: {size / total:.1%}")
W = model.unet.get_parameter(doors[-1]).double()  # frozen; one matrix of values
prompts = ["a cat", "a tiger", "a dog", "a rocket", "an apple"]
states = model.encode(prompts)[:, 2].double()  # of the third token, the noun; (5, D)
c, empty = states[0], model.encode([""])[0, 2].double()
W.shape, c.shape

# %% [markdown]
# We want `W c = v` for one state c, and as little change as possible. Write the result. (Minimise
# `|W' - W|^2` under `W' c = v`: the change can only be an outer product of something with c. Find
# the something.)


# %%
def rank_one(W, c, v):
    ### BEGIN SOLUTION
    return W + torch.outer(v - W @ c, c) / (c @ c)
    ### END SOLUTION


# %%
check("8.1", rank_one)

# %% [markdown]
# ## What else moves?

# %%
moves = Predict(
    "W is edited for the state of 'cat' only. The output for the state of 'tiger' moves ...",
    [
        "not at all: only the cat was edited",
        "in proportion to its overlap with the cat's state",
        "exactly as much as the cat",
    ],
)
moves

# %% tags=["solution"]
moves.choose("in proportion to its overlap with the cat's state")

# %%
v = W @ empty  # what the frozen W says at the same place of the empty prompt
edited = W + torch.outer(v - W @ c, c) / (c @ c)
assert torch.allclose(edited @ c, v)
direction = (v - W @ c) / (v - W @ c).norm() ** 2
shares = states @ (edited - W).T @ direction  # 1 is the cat's own move
assert torch.allclose(shares, states @ c / (c @ c))  # the derivation, checked
{p: round(x, 2) for p, x in zip(prompts, shares.tolist(), strict=True)}

# %%
check("8.2", moves)

# %% [markdown]
# **What you saw.** Whatever points the same way as the cat is taken along: a tiger far more than a
# rocket. A matrix has no words, only directions.
#
# ## How does ROME spare the others?
#
# ROME edits facts in a language model: one matrix, one state (the last token of the subject), and it
# keeps `W' c = v`. But instead of `|W' - W|^2` it minimises what happens to all states the model
# uses, `mean |(W' - W) c_j|^2`. With `C = mean c_j c_j^T`, the direction c of your update is replaced
# by `C^-1 c`. (Meng et al., *Locating and Editing Factual Associations in GPT*, arXiv 2202.05262,
# equation 2.) Write it; `torch.linalg.solve(C, c)` is `C^-1 c`.


# %%
def rome(W, c, v, C):
    ### BEGIN SOLUTION
    k = torch.linalg.solve(C, c)
    return W + torch.outer(v - W @ c, k) / (k @ c)
    ### END SOLUTION


# %%
check("8.3", rome)

# %%
phrases = [concept.phrase for concept in model.vocabulary.concepts]
everything = model.encode(phrases).double().flatten(0, 1)  # every state of every phrase
C = everything.T @ everything / len(everything)
k = torch.linalg.solve(C, c)
spared = states @ k / (c @ k)
named = {"smallest change (8.1)": shares, "ROME's direction (8.3)": spared}
figure = bars(prompts, named, "One value matrix, edited for 'cat'", "share of the cat's move")
Picture(figure, "How much other nouns move: with ROME's direction most move far less")
assert spared[1:].abs().mean() < 0.7 * shares[1:].abs().mean()
print(f"others move by {shares[1:].abs().mean():.2f} on average, then {spared[1:].abs().mean():.2f}")

# %% [markdown]
# **What you saw.** Both make the same change for the cat. The second one chooses, among all
# directions that do, the one that other prompts use least.
#
# ## From one state to a prompt
#
# "a cat" is not one state: the tokens after the noun, padding included, know of the cat too. TIME
# and UCE put many states into one least-squares problem per matrix; here, all states of the prompt
# (UCE's own code takes the last word's only; `esd_core/closed_form.py` solves the equation):
#
#     sum_i |W' c_i - W c*_i|^2  +  p sum_j |W' c_j - W c_j|^2  +  lam |W' - W|^2
#
# c_i: states of the concept; c*_i: of what it shall mean; c_j: of prompts to preserve.

# %%
becomes = Predict(
    "All keys and values are edited so that 'a cat' is read as ''. For 'a cat' the UNet predicts ...",
    [
        "what it predicts for the empty prompt",
        "the erasing target with eta = 1",
        "noise without any structure",
    ],
)
becomes

# %% tags=["solution"]
becomes.choose("what it predicts for the empty prompt")

# %%
plain = closed_form_edit(model, {"a cat": ""}, lam=1e-6)
x_t = torch.randn(2, *model.latent_shape(), generator=torch.Generator().manual_seed(0))
t = torch.tensor(700)  # source of x_t: pure noise; any would do
concept, null = model.encode(["a cat"]), model.encode([""])
eps_edited = predict(plain.apply(model), x_t, t, concept)  # edited model, prompt "a cat"
eps_concept, eps_null = (predict(model.unet, x_t, t, e) for e in (concept, null))  # frozen model
distance = (eps_edited - eps_null).norm() / (eps_concept - eps_null).norm()
assert distance < 0.05
print(f"|eps_edited - eps_null| is {distance:.0e} of |eps_concept - eps_null|")
print(f"solved in {plain.provenance['seconds']} s")

# %%
check("8.4", becomes)

# %% [markdown]
# ## What does the strength of an edit mean?
#
# An erasure is applied as `W + strength * (W' - W)`. With `W' c = W c_null`, at strength s the concept
# is read as `c + s (c_null - c)`. Compare `c_null - eta (c - c_null)`: which eta is strength 2?

# %%
eta_at_strength_2 = None
### BEGIN SOLUTION
eta_at_strength_2 = 1
### END SOLUTION

# %%
check("8.5", eta_at_strength_2)

# %% [markdown]
# So strength is not only a dial of how much: beyond 1 a closed-form edit *pushes away*, as ESD's eta
# does. That lets us compare the two at any erasure we like.
#
# ## Which one breaks less?
#
# Three rivals for "a cat", all frozen but for what they edit. The second and third hold the same 16
# phrases: the cat's neighbours, and others drawn at random. The cell after next says which of our test
# prompts are among them.

# %%
config = preset("live", "a cat", train_method="esd-x")  # 20 updates
others = held(model, config)
*_, last = erase(model, config)
rivals = {
    "edit, nothing preserved": closed_form_edit(model, {"a cat": ""}),
    "edit, others preserved": closed_form_edit(model, {"a cat": ""}, preserve=others, preserve_weight=0.1),
    "ESD, others preserved": last.erasure,
}
print(f"ESD: {last.seconds:.1f} s of training; edits:", end=" ")
print(*(f"{r.provenance['seconds']} s" for r in list(rivals.values())[:2]), sep=", ")

# %%
cat = judge.concept("cat")
styles = ["noto", "openmoji", "monochrome"]
groups = {
    "the cat": ["a cat"] * 4 + [f"a cat in {s} style" for s in styles],
    "neighbours": [c.phrase for c in judge.neighbours(cat, 3)],
    "unrelated": [c.phrase for c in judge.unrelated(cat, 3)],
    "other styles": [f"a house in {s} style" for s in styles],
}

# %%
asked = [prompt for group in groups.values() for prompt in group]
group_of = [name for name, group in groups.items() for _ in group]
print("preserved by name:", set(asked) & set(others))
assert set(groups["neighbours"]) <= set(others) and not set(groups["other styles"]) & set(others)
groups


# %%
def draw(unet=None, prompts=asked):  # one seed per prompt, the same for every model
    options = dict(seeds=range(len(prompts)), num_inference_steps=8, scheduler="dpm++")
    return generate(model, prompts, unet=unet, **options)


def drift(pictures, group):  # mean pixel change since the frozen model's picture, in [0, 1]
    rows = [i for i, name in enumerate(group_of) if name == group]
    return (pictures[rows] - base[rows]).abs().mean().item()


def presence(pictures):  # of the cat, where it was asked for; empty prompt: about 0
    return judge.presence(pictures[: len(groups["the cat"])], cat).mean().item()


# %% [markdown]
# Same noise before and after, so a picture that was left alone is the same picture; `drift` is how
# far it moved. Draw everything at three strengths.

# %%
base = draw()  # frozen model
strengths = [0.0, 0.5, 1.0, 1.5]
drawn = {
    name: [base] + [draw(rival.apply(model, s)) for s in strengths[1:]] for name, rival in rivals.items()
}
left = {name: [presence(p) for p in pictures] for name, pictures in drawn.items()}
nothing = judge.presence(draw(prompts=[""] * 7), cat).mean().item()
wanted = (left["ESD, others preserved"][0] + nothing) / 2  # half of the cat gone
{name: [round(x, 2) for x in values] for name, values in left.items()}

# %%
figure = curves(
    {n: (left[n], [drift(p, "neighbours") for p in drawn[n]]) for n in rivals},
    "What the neighbours pay (dashed: half of the cat is gone)",
    "presence of the cat, where asked for",
    "drift of neighbours",
    mark=wanted,
)
Picture(figure, "Curves from right to left as strength grows: erasure against drift of neighbours")

# %% [markdown]
# A comparison at one's own favourite strength proves nothing: who erases less always breaks less.
# Read every curve at the dashed line instead.

# %%
paid = Predict(
    "At equal erasure, which one changes the neighbours least?",
    ["edit, nothing preserved", "edit, others preserved", "ESD, others preserved"],
)
paid

# %% tags=["solution"]
paid.choose("edit, others preserved")


# %%
def at_equal_erasure(wanted, left, drifts):
    # between the strengths on either side of the dashed line
    i = next(i for i, x in enumerate(left) if x < wanted)
    share = (left[i - 1] - wanted) / (left[i - 1] - left[i])
    return drifts[i - 1] + share * (drifts[i] - drifts[i - 1])


# %%
paid_by = {
    g: [at_equal_erasure(wanted, left[n], [drift(p, g) for p in drawn[n]]) for n in rivals]
    for g in list(groups)[1:]
}
figure = bars(list(rivals), paid_by, "Unintended change at equal erasure", "drift (mean pixel change)")
Picture(figure, "Drift of neighbours, unrelated concepts and other styles, for three rivals")

# %%
for group, values in paid_by.items():
    print(f"{group:13s}", *(f"{value:.3f}" for value in values))
bare, edit, esd = paid_by["neighbours"]
assert edit < 0.7 * min(bare, esd)
check("8.6", paid)

# %% [markdown]
# **What you saw.** An edit that mentions only the cat is rough on the neighbours, as the overlap predicted.
# With them in the sum the same equation treats them far better than ESD, which was told the same: one
# solve finds the optimum that a few updates only walk towards.
#
# Now look at the bars of "other styles". The preserved phrases name one thing each;
# "a house in openmoji style" is none of them, and there the lead is lost.

# %%
lead = {group: values[2] / values[1] for group, values in paid_by.items()}  # above 1: edit is gentler
print({group: f"ESD moves them {ratio:.1f} times as far as the edit" for group, ratio in lead.items()})
assert lead["other styles"] < min(1.0, 0.5 * lead["neighbours"])

# %% [markdown]
# A least-squares edit keeps its word about the states it was given, and promises nothing about
# others. ESD's loss is over predictions, not states: far less exact on the list, and gentler on
# sentences that no list foresaw.
#
# ## And a style?
#
# Only "monochrome style" is named to both, none of the prompts below (`from_objects="none"`: `live` would
# also show ESD the style on objects). Does the same one win?

# %%
style = judge.concept("monochrome style")
things = ["a dog", "an apple", "a rocket"]
scenes = [f"{x} in monochrome style" for x in things] + [f"{x} in flat style" for x in things]
config = preset("live", style.phrase, seed=1, from_objects="none", train_method="esd-x")
others = held(model, config)
*_, last = erase(model, config)
edit = closed_form_edit(model, {style.phrase: ""}, preserve=others, preserve_weight=0.1)
erasers = {"edit": edit, "ESD": last.erasure}

# %% tags=["gallery"]
plain_pictures = draw(None, scenes)  # frozen model
by_strength = {
    name: [plain_pictures] + [draw(eraser.apply(model, s), scenes) for s in strengths[1:]]
    for name, eraser in erasers.items()
}
rows = {"frozen": plain_pictures, **{name: row[2] for name, row in by_strength.items()}}
sheet = figures.sheet(
    torch.stack(list(rows.values())), list(rows), scenes, title="strength 1, the same noise down each column"
)
Picture(sheet, "Three things in two styles: frozen, edited, and fine-tuned with ESD")

# %%
seen = {n: [judge.presence(p[:3], style).mean().item() for p in row] for n, row in by_strength.items()}
moved = {n: [(p - row[0])[3:].abs().mean().item() for p in row] for n, row in by_strength.items()}
unnamed = judge.presence(draw(None, things), style).mean().item()  # no style asked for
half = (seen["edit"][0] + unnamed) / 2
price = {n: at_equal_erasure(half, seen[n], moved[n]) for n in erasers}
print(
    "drift of the flat pictures when half of the style is gone:", {n: round(x, 3) for n, x in price.items()}
)
assert price["edit"] < 0.9 * price["ESD"]

# %% [markdown]
# **What you saw.** A style that is a word of its own can be edited away like a noun, and at equal erasure
# the edit moves the flat pictures less here, too. So when does which one win? Here the edit wins among
# phrases of the kind that was on its list. ESD wins on whole sentences, of which none was. And
# neither this edit nor esd-x reaches a concept that comes without its word (the paper trains esd-u there).

# %% [markdown]
# ## Place it directly, learn its content
#
# Why choose? A change of rank one, `W' = W + a b^T`, has two sides. b decides which states feel it, and
# that is ROME's question, with an exact answer. a decides what they become, and ESD's loss can learn it. Your
# 8.3 finds b for one state. For all states E of a prompt, b is the direction in which they stand out most
# from the states C of everything that shall stay: the largest `mean (b e)^2` at `b C b^T = 1`.
#
# `a` begins at what the erasing target asks of the states, `W (c_null - eta (c - c_null))`, by least squares
# as above. Then a few updates of ESD's loss change `a` alone. That is `live`; the file is a LoRA of rank 1.

# %%
config = preset("live", "a cat")  # train method esd-lora
C = covariance(model, config)  # over every prompt that the model knows, but for those with a cat
E = model.encode(["a cat"])[0].double()  # (L, D)
L = torch.linalg.cholesky(C + config.lam * torch.eye(len(C), dtype=C.dtype))


def direction(E):
    whitened = torch.linalg.solve_triangular(L, E.T, upper=False).T  # C becomes the identity
    v = torch.linalg.svd(whitened, full_matrices=False).Vh[0]
    return torch.linalg.solve_triangular(L.T, v[:, None], upper=True)[:, 0]


k = torch.linalg.solve(C + config.lam * torch.eye(len(C), dtype=C.dtype), c)
assert torch.cosine_similarity(direction(c[None]), k, dim=0).abs() > 0.9999  # of one state it is ROME's

# %%
b = direction(E)
named = ["a cat", "a tiger", "a dog", "a rocket", "a house in flat style", ""]
felt = {name: model.encode([name])[0].double() for name in named}
ways = {"the noun's own state, c (8.1)": c / c.norm(), "placed, b": b}
rms = {way: [(felt[n] @ d).square().mean().sqrt() for n in named] for way, d in ways.items()}
shown = {way: [float(x / values[0]) for x in values] for way, values in rms.items()}
figure = bars([n or "(empty)" for n in named], shown, "Who feels the change?", "share of what the cat feels")
Picture(figure, "How strongly six prompts feel a change along c and along b, relative to the cat")

# %%
*_, last = erase(model, config)
rivals["placed, then trained"] = last.erasure
drawn["placed, then trained"] = [base] + [draw(last.erasure.apply(model, s)) for s in strengths[1:]]
left["placed, then trained"] = [presence(p) for p in drawn["placed, then trained"]]
print(f"{last.seconds:.1f} s of training, {sum(t.numel() for t in last.erasure.tensors.values()):,} numbers")

# %%
third = Predict(
    "At equal erasure, which one moves the other styles least?",
    ["edit, others preserved", "ESD, others preserved", "placed, then trained"],
)
third

# %% tags=["solution"]
third.choose("placed, then trained")

# %%
paid_by = {
    g: [at_equal_erasure(wanted, left[n], [drift(p, g) for p in drawn[n]]) for n in rivals]
    for g in list(groups)[1:]
}
figure = bars(list(rivals), paid_by, "Unintended change at equal erasure", "drift (mean pixel change)")
Picture(figure, "Drift of neighbours, unrelated concepts and other styles, for four rivals")
for group, values in paid_by.items():
    print(f"{group:13s}", *(f"{value:.3f}" for value in values))
assert paid_by["other styles"][3] < min(paid_by["other styles"][1:3])
check("8.7", third)

# %% [markdown]
# **What you saw.** The edit alone promises nothing beyond its list, and fine-tuning alone
# promises nothing at all. Placed, a change has hardly any room to do harm: what it learns is felt only
# along one direction, which everything else was asked to vacate. What counts is how much the list C
# holds. The edit above knew 16 phrases, this one every prompt of the vocabulary.
#
# Draw your own: which strength is the first without a cat, and what has it cost by then?


# %%
def two_rows(method, strength, prompt):
    pair = [prompt, "a tiger", "a house in flat style"]
    unet = rivals[method].apply(model, strength)
    rows = torch.stack([draw(None, pair), draw(unet, pair)])
    return figures.sheet(rows, ["frozen", f"strength {strength:g}"], pair)


Explorer(
    two_rows,
    "{prompt} and two bystanders, frozen and by '{method}' at strength {strength}",
    run=True,
    method=choice(list(rivals), "edit, others preserved"),
    strength=slider(1.5, 0.0, 3.0, 0.25),
    prompt=choice(groups["the cat"][3:]),
)

# %% [markdown]
# ## In three sentences
#
# Words reach pictures through keys and values only, so a prompt's meaning can be rewritten by solving
# one linear system per matrix. What such an edit does to other prompts is decided by their overlap
# and by what the sum preserves, not by intention. ESD has a loss over predictions instead, may change
# queries and outputs too, and trains for seconds where the edit takes a fraction of one. Place a change of
# rank one by the first and learn its content by the second, and each makes up for the other.
#
# In `esd_core`: `closed_form_edit(model, {"a cat": ""}, preserve=[...])`; `preset("live", "a cat")` is placed
# and trained, `preset("edit", "a cat")` placed and solved for, without any update. Simplified: one seed per
# prompt, and CLIP's opinion of small pictures.
#
# ## Where next
#
# - Add sentences such as "a house in openmoji style" to `preserve`. Does the edit win there too, and
#   what happens if you preserve every phrase with weight 1, as UCE's own code weighs them? (Count the
#   dimensions of a text state and the states in the sum.)
# - `{"a cat": "a dog"}` makes the word mean something else. Is that erasing, and who would notice?
#
# Orgad et al., *Editing Implicit Assumptions in Text-to-Image Diffusion Models*, arXiv 2303.08084
# (TIME). Gandikota et al., *Unified Concept Editing in Diffusion Models*, arXiv 2308.14761 (UCE).
