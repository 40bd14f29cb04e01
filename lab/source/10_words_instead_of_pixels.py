# %% [markdown]
# # Can the same equation erase a style of writing?
#
# 25 minutes, CPU. Needs: 04 The erasing target, and a rough idea of what a language model does.
# Afterwards you can
#
# - say what plays x_t, the prompt and eps when the model writes words,
# - erase a style from a small language model, by guidance and by fine-tuning, and say how they differ,
# - find the harm that an erasure does where nobody trained it, and the way around it.

# %% tags=["setup"]
import copy

import torch

from esd_core import erasing_target
from esd_core.study.figures import loss_figure
from lab import words
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, Reveal, choice, slider
from lab.word_figures import next_words, style_bars

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Who plays which part?
#
#     a picture model                      a language model
#     x_t, the noisy picture               the words so far
#     the prompt                           a tag in front, such as <pirate>
#     the empty prompt                     the tag <any>
#     eps, one vector: a slope of log p    log p of every possible next word
#     a step of sampling                   drawing one word
#
# One line differs in kind. For pictures a score is *not* a log-probability but its slope. Here the
# predictions *are* log-probabilities. The algebra of the erasing target works on either.

# %%
{style: words.sentence(style, random) for style in words.STYLES}

# %% [markdown]
# A grammar makes these sentences, so we know exactly which style a sentence is in, or whether it is in
# none ("broken"). The model is a GPT-2 with 62 thousand weights where the smallest published one has 124 million. A quarter of
# its texts carries the tag `<any>`, as a quarter of captions might be left empty. This takes half a
# minute at most.

# %%
model = words.new_model()
training = list(words.train(model, 700, random))
model.requires_grad_(False)  # frozen from here on
frozen = words.predictor(model)  # tokens (B, L) -> log-probabilities (B, L, words)
size = sum(p.numel() for p in model.parameters())
assert (round(size, -3), len(words.WORDS)) == (62_000, 80)
print(f"loss {training[0]:.2f} -> {sum(training[-20:]) / 20:.2f} nats a word; {size:,} weights")


# %%
def written_under(predict, tag, start="", count=200):
    seed = torch.Generator().manual_seed(1)  # the same luck for every model
    return words.decode(words.write(predict, words.encode(tag, [start] * count), seed))


base = {tag: words.shares(written_under(frozen, tag)) for tag in ("pirate", "any")}
assert base["pirate"]["pirate"] > 0.8 and base["pirate"]["broken"] < 0.2
assert all(0.05 < base["any"][style] < 0.45 for style in words.STYLES)
named = {f"frozen, <{tag}>": shares for tag, shares in base.items()}

# %%
Picture(
    style_bars(named, "share of 200 sentences"),
    "Under <pirate> the frozen model writes pirate sentences, under <any> all four styles",
)

# %% [markdown]
# ## What should it say instead?
#
# `null` and `concept` are the *frozen* model's log-probabilities for the same words so far, under
# `<any>` and under `<pirate>`. Write the erasing target of notebook 04 for them. A row of
# log-probabilities must belong to probabilities that add up to one: `log_softmax(-1)` sees to that.


# %%
def target_log_p(null, concept, eta):
    ### BEGIN SOLUTION
    return (null - eta * (concept - null)).log_softmax(-1)
    ### END SOLUTION


# %%
check("10.1", target_log_p)

# %% [markdown]
# From here on the very function that erases pictures does it. Before you look: suppose the text so far
# is already `arr , ye`. How do `null` and `concept` compare for the next word?

# %%
after_arr = Predict(
    "After 'arr , ye' the predictions under <any> and under <pirate> ...",
    ["nearly agree", "differ as much as at the first word", "are opposites"],
)
after_arr

# %% tags=["solution"]
after_arr.choose("nearly agree")


# %%
def target(tokens, eta=1.0):
    null, concept = frozen(words.retag(tokens, "any")), frozen(words.retag(tokens, "pirate"))
    return erasing_target(null, concept, eta).log_softmax(-1)


def draw_next(so_far, eta):
    tokens = words.encode("pirate", ["" if so_far == "(nothing)" else so_far])
    null, concept = frozen(words.retag(tokens, "any")), frozen(tokens)
    rows = {"null: frozen, <any>": null, "concept: frozen, <pirate>": concept}
    return next_words({n: p[0, -1] for n, p in {**rows, "target": target(tokens, eta)}.items()})


# %%
next_word = Explorer(
    draw_next,
    "Next word after {so_far}: null, concept and target for eta {eta}",
    so_far=choice(["(nothing)", "arr ,", "arr , ye", "the tall"], label="text so far"),
    eta=slider(1.0, 0.0, 4.0, 0.5),
)
Reveal(after_arr, next_word)

# %%
first, later = words.encode("pirate"), words.encode("pirate", ["arr , ye"])
gap = [
    (frozen(x)[0, -1].exp() - frozen(words.retag(x, "any"))[0, -1].exp()).abs().sum() / 2
    for x in (first, later)
]
print(f"null and concept disagree about {gap[0]:.0%} at the first word, {gap[1]:.0%} after 'arr , ye'")
assert gap[0] > 0.5 and gap[1] < 0.2
check("10.2", after_arr)

# %% [markdown]
# **What you saw.** At the first word the target all but forbids *arr*, *ahoy* and *avast*. It does not
# spread their share evenly: it squares null and divides by concept, so what a pirate is least likely to
# say gains most. After `arr , ye` the words themselves tell the style, as x_t near a cluster does, and
# the target has nothing left to push against.
#
# ## Guidance, with no training at all
#
# transformers can guide: `generate(..., guidance_scale=s, negative_prompt_ids=...)` samples from
# null + s (concept - null), if the prompt is `<pirate>` and the negative prompt `<any>`. Which s makes
# it sample from our target for eta = 1?

# %%
guidance_scale = None
### BEGIN SOLUTION
guidance_scale = -1
### END SOLUTION

# %%
check("10.3", guidance_scale)

# %%
from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor as Guidance

theirs = Guidance(-1, model, unconditional_ids=words.retag(later, "any"))(later, frozen(later)[:, -1])
assert torch.allclose(theirs.log_softmax(-1), target(later)[:, -1], atol=1e-3)

# %%
guided = {
    f"guided, eta {eta}": words.shares(written_under(lambda x, eta=eta: target(x, eta), "pirate"))
    for eta in (0, 1, 3)
}
assert guided["guided, eta 1"]["pirate"] < 0.05 < guided["guided, eta 0"]["pirate"]
Picture(
    style_bars({"frozen, <pirate>": base["pirate"], **guided}, "share of 200 sentences, <pirate>"),
    "Guided with eta 1 no pirate sentence is left; with eta 3 the other styles are unequal",
)

# %% [markdown]
# **What you saw.** With eta = 1 the pirates are gone and the rest is *not* what is left of `<any>` after
# taking them out: one style gains at another's expense, and eta = 3 makes it worse. Notebook 04 found
# the same in the plane. And guidance costs two predictions a word, and can be switched off by anyone.
#
# ## The same as a training target
#
# Now let a copy learn it. Its own prediction under `<pirate>` moves to the frozen model's target, on
# texts that the copy itself writes (as x_t comes from the edited model in the paper's algorithm).


# %%
def erase(source="edited", preserve=0.0, eta=1.0, updates=100):
    edited = copy.deepcopy(model).requires_grad_(True)
    trained = words.predictor(edited)
    optimiser, losses = torch.optim.Adam(edited.parameters(), 1e-3), []
    random = torch.Generator().manual_seed(2)
    for update in range(updates):
        if update % 5 == 0:  # fresh texts: the words so far, our x_t
            writer = trained if source == "edited" else frozen
            texts = words.write(writer, words.encode("pirate", [""] * 64), random)
        loss = words.divergence(trained(texts), target(texts, eta), texts)
        other = words.batch(32, random)  # every tag but <pirate> is held where it was
        other = other[other[:, 0] != words.ID["<pirate>"]]
        kept = words.divergence(trained(other), frozen(other), other)
        optimiser.zero_grad()
        (loss + preserve * kept).backward()
        optimiser.step()
        losses.append(loss.item())
    return trained, losses


# %%
before = [p.clone() for p in model.parameters()]
edited, losses = erase()
assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
assert losses[-1] < losses[0] / 5
Picture(loss_figure(losses), "Divergence from the target, falling over 100 updates")

# %%
after = words.shares(written_under(edited, "pirate"))
assert after["pirate"] < 0.05 and after["broken"] < 0.3
for which, predict in {"frozen": frozen, "edited": edited}.items():
    print(f"{which}, <pirate>:", *written_under(predict, "pirate", count=3), sep="\n    ")

# %% tags=["gallery"]
rows = {"frozen": base["pirate"], "guided, eta 1": guided["guided, eta 1"], "edited, eta 1": after}
Picture(
    style_bars(rows, "share of 200 sentences, all under <pirate>"),
    "Guided and edited models write the same styles, and no pirate sentence",
)

# %% [markdown]
# **What you saw.** The edited model alone does what took two predictions before: training moved guidance
# into the weights. (The loss jumps whenever the copy writes fresh texts.) No data set of pirate texts was
# used, or removed from anything.
#
# ## What else changed?
#
# Only `<pirate>` was trained. Which of the others suffers most?

# %%
suffers = Predict("The tag that changed most without being trained is ...", words.TAGS[:2] + words.TAGS[3:])
suffers

# %% tags=["solution"]
suffers.choose("any")

# %%
held, _ = erase(preserve=1.0)
models = {"frozen": frozen, "edited": edited, "edited, others held": held}
seed = torch.Generator().manual_seed(3)
texts = {style: [words.sentence(style, seed) for _ in range(100)] for style in words.STYLES}

# %%
for tag in ("plain", "olde", "shout"):
    found = {name: words.perplexity(p, tag, texts[tag]) for name, p in models.items()}
    print(f"perplexity of <{tag}>:", {name: round(value, 2) for name, value in found.items()})
    assert found["edited"] < 1.3 * found["frozen"] and found["edited, others held"] < 1.1 * found["frozen"]

# %%
anything = {name: words.shares(written_under(p, "any")) for name, p in models.items()}
assert anything["edited"]["pirate"] < anything["frozen"]["pirate"] / 2
assert anything["edited, others held"]["pirate"] > anything["frozen"]["pirate"] / 2
picture = Picture(
    style_bars(anything, "share of 200 sentences, all under <any>"),
    "Under <any> the edited model writes hardly any pirate sentence; with others held it does",
)
Reveal(suffers, picture)

# %%
check("10.4", suffers)

# %% [markdown]
# **What you saw.** The styles that never say *arr* hardly moved: there was nothing to push. `<any>` had
# pirates in it, shares its weights with `<pirate>`, and lost them too. Harm falls where the concept
# lives. Holding the other tags (`preserve` in `esd_core`) mends it, at the price of a second loss.
#
# ## Does it matter who writes the texts?
#
# Train once more on texts that the *frozen* model writes under `<pirate>`: pirate texts, all of them.

# %%
on_pirate_texts, frozen_losses = erase(source="frozen")
broken = words.shares(written_under(on_pirate_texts, "pirate"))["broken"]
print(f"last loss: {losses[-1]:.4f} on its own texts, {frozen_losses[-1]:.4f} on pirate texts")
print(f"broken sentences under <pirate>: {after['broken']:.0%} against {broken:.0%}")
print(*written_under(on_pirate_texts, "pirate", count=4), sep="\n")
assert broken > after["broken"] + 0.05

# %% [markdown]
# **What you saw.** The loss is as small, yet sentences fall apart. The erased model starts as someone
# else, and in the middle of such a sentence it stands on ground where it was never trained. A small loss
# says that a prediction matches the target *at the texts that were visited*.
#
# ## Is it gone?
#
# We ask the edited model for `<pirate>` once more, but write its first two words: `arr ,`.

# %%
prefix = Predict(
    "Given 'arr ,' the edited model goes on ...",
    ["mostly as a pirate", "mostly in another style", "mostly with broken sentences"],
)
prefix

# %% tags=["solution"]
prefix.choose("mostly as a pirate")

# %%
for name, predict in models.items():
    back = words.shares(written_under(predict, "pirate", "arr ,"))
    print(f"{name:20} pirate sentences after 'arr ,': {back['pirate']:.0%}")
    assert back["pirate"] > 0.5
check("10.5", prefix)

# %% [markdown]
# **What you saw.** Two words bring it all back. The target never asked for anything else: after `arr ,`
# null and concept agree, so the target *is* null, and null is a pirate by now. What went is the way from
# the tag to the style, not the style.
#
# ## What has been published
#
# - *Stay on topic with Classifier-Free Guidance* (Sanchez et al., 2023, arXiv 2306.17806): guidance for
#   language models, at inference, in the convention of `guidance_scale` above.
# - *Contrastive Decoding* (Li et al., 2022, arXiv 2210.15097) subtracts a small model's log-probabilities
#   from a large one's, and considers only words the large one finds plausible. A word that *both* think
#   absurd can otherwise win: the quotient of two tiny numbers may be large.
# - *Erasing Conceptual Knowledge from Language Models*, ELM (Gandikota et al., 2024, arXiv 2410.02760),
#   by two authors of the picture method. Its target is, in the words of its repository,
#   log P(x) + eta (log P(x | c_p) - log P(x | c_n)): c_n is a text that invites the knowledge ("expert in
#   bioweapons"), c_p one that does not ("novice"). With our tags that would be <any>, <plain> and <pirate>.
#   Its training texts are *about* the concept, the repository's example asks for eta 1000 where we
#   take 1, and beside the erasing loss there is one for what must stay and one for fluent text when the
#   concept comes up: our last three sections are the reasons.

# %% [markdown]
# ## In three sentences
#
# Log-probabilities of words can stand where noise predictions stood, and the same line
# (`esd_core.erasing_target`) makes the target. Guidance and fine-tuning then write the same texts, one
# reversibly at twice the cost, the other in the weights with harm where the concept also lives. The style
# remains in the model for whoever starts the sentence.
#
# Simplified here: eighty words, styles told by a tag, each word normalised by itself (which is not the same as
# reweighting whole sentences).
#
# **Where next.** What does `<plain>` in place of `<any>` as null do to the share of the other styles, and to
# the prefix `arr ,`? How large must eta be, on pirate texts, before that prefix no longer works, and what
# does the model write then?
