# %% [markdown]
# # Is it gone?
#
# 30 minutes, CPU. Needs: notebooks 06 (erase it live) and 08. Afterwards you can
#
# - look for an erased concept in five places, each with less help from the model's owner,
# - invert a concept: learn an input that brings it back, with every weight left as it is,
# - say what a low score after erasing does and does not show.

# %% tags=["setup"]
from dataclasses import replace

import torch

from esd_core import Probe, erase, generate, invert, load_model, preset
from esd_core.denoise import add_noise, predict
from esd_core.erasure import set_parameter, shared_copy
from esd_core.sampling import make_scheduler
from esd_core.study import figures
from esd_core.teacher import noised
from lab.charts import curves
from lab.checks import check
from lab.controls import Explorer, Picture, Predict, slider

model, options = load_model("emoji"), dict(num_inference_steps=8, scheduler="dpm++")
judge = Probe.of(model)  # the model's own CLIP
cat = judge.concept("cat")

# %%
config = preset("live", "a cat", train_method="esd-x")  # ESD-x, eta 1, 20 updates
*_, last = erase(model, config)
edited = last.erasure.apply(model)


def look(prompt, unet, seeds=range(4), of=model, **more):  # pictures, and how much cat is in them
    pictures = generate(of, prompt, seeds=list(seeds), unet=unet, **{**options, **more})
    return pictures, judge.presence(pictures, cat).mean().item()


rows = {"frozen": look("a cat", model.unet), "edited": look("a cat", edited)}
nothing = look("", model.unet)[1]
print(*(f"{name}: presence {score:.2f}" for name, (_, score) in rows.items()), sep="; ")
print(f"empty prompt: {nothing:.2f}")

# %%
Picture(
    figures.sheet(
        torch.stack([p for p, _ in rows.values()]),
        list(rows),
        [f"seed {s}" for s in range(4)],
        title="prompt 'a cat'",
    ),
    "Four seeds of the prompt a cat, frozen and edited: hardly a cat in the edited row",
)

# %% [markdown]
# By eye hardly a cat is left: one face of the four might be some cat's. CLIP's presence has only fallen
# from 0.46 to about 0.4, where the empty prompt has 0.2: it measures resemblance, and what is round and
# orange resembles a cat. Look at the pictures first and at the number second, here and in every paper.
#
# And one phrase is what the training asked for. So look where it did not ask.
#
# ## Other words
#
# Paraphrases are the first thing to try. This model knows few words (`kitty` is none of them), but
# many sentences.

# %%
assert model.unknown_words("a kitty") == ["kitty"]
sentences = [
    "cat",
    "noto style cat",
    "a cat in openmoji style",
    "a cat on a blue background",
    "a cat in flat style on a red background",
]

# %%
said = {name: look(sentences, unet, range(5)) for name, unet in (("frozen", model.unet), ("edited", edited))}
pictures = torch.stack([p for p, _ in said.values()])
Picture(figures.sheet(pictures, list(said), sentences), "Five other ways of asking for a cat")

# %%
before, after = (judge.presence(p, cat) for p in pictures)
for sentence, a, b in zip(sentences, before.tolist(), after.tolist(), strict=True):
    print(f"{sentence:42s} {a:5.2f} -> {b:5.2f}")
assert after.mean() < before.mean()  # the edit carries over ...
print(f"left of the phrase itself {rows['edited'][1]:.2f}, of these {after.mean():.2f}")

# %% [markdown]
# **What you saw.** The edit carries over to sentences it was never trained on, but not evenly. One
# average hides the sentence that works, and whoever wants the cat needs only that one.
#
# ## Louder
#
# If a word is weak, raise the guidance scale.

# %%
louder = Predict(
    "If the edit has reached its target, 'a cat' at guidance 1, 4, 10 shows ...",
    [
        "less and less of the cat",
        "the cat again, because guidance strengthens whatever the prompt names",
        "the same as at guidance 1: the weights are what they are",
    ],
)
louder

# %% tags=["solution"]
louder.choose("less and less of the cat")

# %%
scales = [1.0, 4.0, 10.0]
seen = [look("a cat", edited, guidance_scale=w) for w in scales]
sheet = figures.sheet(
    torch.stack([p for p, _ in seen]),
    [f"guidance {w:g}" for w in scales],
    [f"seed {s}" for s in range(4)],
    title="edited model, prompt 'a cat'",
)
print(*(f"guidance {w:g}: presence {p:.2f}" for w, (_, p) in zip(scales, seen, strict=True)), sep="; ")
Picture(sheet, "The edited model at three guidance scales: the louder, the further from a picture")

# %%
assert max(p for _, p in seen) < rows["frozen"][1]
check("9.1", louder)

# %% [markdown]
# **What you saw.** Louder brings back no cat that the eye would know. But presence rises from row to row,
# where the formula has it fall: the target was not quite reached, and CLIP measures resemblance, of which
# something orange with two ears has enough.
#
# ## Half a picture
#
# So far words had to do everything. Now someone holds a picture: the frozen model's cats, encoded,
# noised to some t, and given to the *edited* model to finish.

# %%
half = Predict(
    "A cat, noised half-way, finished by the edited model with the empty prompt, becomes ...",
    [
        "still the cat: the picture says what it is",
        "no cat: the model cannot draw one any more",
        "an empty picture, as nothing is asked for",
    ],
)
half

# %% tags=["solution"]
half.choose("still the cat: the picture says what it is")

# %%
cats = rows["frozen"][0]  # source of x_t below: these pictures, noised
x_0 = model.encode_images(cats)
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
schedule = make_scheduler(model, "ddim")
schedule.set_timesteps(10)


def finish(start, prompt, unet):  # skip the first `start` of 10 steps
    x_t = add_noise(x_0, eps, model.alpha_bar[schedule.timesteps[start]])
    return look(prompt, unet, latents=x_t, start_at=start, num_inference_steps=10, scheduler="ddim")


# %%
starts = [6, 3, 1, 0]
levels = [int(schedule.timesteps[s]) for s in starts]
who = {
    "edited, 'a cat'": ("a cat", edited),
    "edited, empty prompt": ("", edited),
    "frozen, empty prompt": ("", model.unet),
}
finished = {name: [finish(s, *pair) for s in starts] for name, pair in who.items()}

# %%
scores = {name: (levels, [score for _, score in row]) for name, row in finished.items()}
figure = curves(scores, "Finished from a noised cat", "noised to t", "presence of the cat")
Picture(figure, "Presence of the cat stays high until the noise has hidden the picture")

# %%
shown = torch.stack([row[1][0] for row in finished.values()])  # at the second level
title = f"x_t: the frozen model's cats, noised to t = {levels[1]}; finished by"
sheet = figures.sheet(shown, list(who), [f"cat of seed {s}" for s in range(4)], title=title)
assert finished["edited, empty prompt"][0][1] > (rows["frozen"][1] + nothing) / 2
Picture(sheet, "Four noised cats, finished by three models")

# %%
check("9.2", half)

# %% [markdown]
# **What you saw.** Once there is a cat in x_t, the edited model finishes it like the frozen one, even if
# asked with the very phrase that was erased, and even at a t where the eye sees only noise. The word
# decides when it starts from pure noise; from there on the picture does. (Lu et al., *When Are Concepts
# Erased From Diffusion Models?*, arXiv 2505.17013, probe Stable Diffusion with such starts.)
#
# ## An input that was never erased
#
# The edit changed what the states of 'a cat' do. Is there another input that does what they did?
# Search: keep the edited model as it is, take pictures of cats, and fit text states to them. First
# the loss. `edited` is a function of `(x_t, t, states)`.


# %%
def inversion_loss(edited, x_0, eps, alpha_bar, t, states):
    ### BEGIN SOLUTION
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
    return (edited(x_t, t, states) - eps).square().mean()
    ### END SOLUTION


# %%
check("9.3", inversion_loss)

# %%
learns = Predict(
    "Concept inversion follows the gradient of this loss to ...",
    ["the text states", "the weights of the edited UNet", "the weights of the text encoder"],
)
learns

# %% tags=["solution"]
learns.choose("the text states")

# %%
more_cats = look("a cat", model.unet, range(100, 108))[0]  # other seeds than those we look at
steps = list(invert(model, more_cats, unet=edited))  # 40 updates, from the empty prompt's states
learned = steps[-1].states
print(f"{learned.numel():,} numbers learned from {len(more_cats)} pictures")
check("9.4", learns)

# %%
x_t, t, eps = noised(model, model.encode_images(more_cats), 16, torch.Generator().manual_seed(77))
concept = model.encode(["a cat"])  # source of x_t: pictures, noised; not the noise it learned from
tries = {
    "frozen, 'a cat'": (model.unet, concept),
    "edited, 'a cat'": (edited, concept),
    "edited, learned states": (edited, learned[None]),
}
with torch.no_grad():
    for name, (unet, states) in tries.items():
        print(f"{name:22s} error {(predict(unet, x_t, t, states) - eps).square().mean():.4f}")

# %% tags=["gallery"]
asked = {step.iteration: look("<learned>", edited, of=step.apply(model)) for step in steps[::20]}
rows_ = [rows["frozen"][0], rows["edited"][0], *(pictures for pictures, _ in asked.values())]
names = ["frozen, 'a cat'", "edited, 'a cat'", *(f"edited, {i} updates" for i in asked)]
print(*(f"{i} updates: presence {score:.2f}" for i, (_, score) in asked.items()), sep="; ")
assert asked[40][1] > asked[0][1] + 0.1
Picture(
    figures.sheet(torch.stack(rows_), names, [f"seed {s}" for s in range(4)]),
    "The edited model draws cats again when it is given the learned states",
)

# %% [markdown]
# **What you saw.** Rows two and five come from the same edited weights: only the input differs. Pham et
# al. (*Circumventing Concept Erasure Methods*, arXiv 2308.01508) found such inputs for all seven methods
# they tried, ESD included. They searched the embedding of one word, which the text encoder then reads.
#
# ## How long does it take to learn again?
#
# Whoever holds the weights can train. Two teachers: the frozen model's own pairs (which ESD erased
# with), or a handful of pictures. For the first, ESD's own loop will do: which eta makes its target
# `eps_null - eta * (eps_concept - eps_null)` equal to eps_concept?

# %%
eta_back = None
### BEGIN SOLUTION
eta_back = -1
### END SOLUTION

# %%
check("9.5", eta_back)

# %%
back = preset("live", "a cat", eta=-1.0, iterations=12, train_method="esd-x")
marks, by_pairs = [0, 2, 4, 8, 12], []
pairs = replace(last.examples, origin="")  # the frozen model's, which another model may not reuse
for step in erase(model.with_unet(edited), back, examples=pairs):
    if step.iteration in marks:
        by_pairs.append(look("a cat", step.unet)[1])


# %%
def relearn(images, updates, learning_rate=1e-3):  # the model's first training, on a few pictures
    unet, random = shared_copy(edited, last.erasure.tensors), torch.Generator().manual_seed(0)
    trained = [torch.nn.Parameter(unet.get_parameter(n).clone()) for n in last.erasure.tensors]
    for name, parameter in zip(last.erasure.tensors, trained, strict=True):
        set_parameter(unet, name, parameter)
    optimizer, x_0 = torch.optim.Adam(trained, lr=learning_rate), model.encode_images(images)
    states = model.encode(["a cat"])
    yield unet
    for _ in range(updates):
        t = torch.randint(1000, (len(x_0),), generator=random)
        eps = torch.randn(x_0.shape, generator=random)
        x_t = add_noise(x_0, eps, model.alpha_bar[t])  # source of x_t: pictures, noised
        loss = (predict(unet, x_t, t, states) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield unet


# %%
by_pictures = [look("a cat", unet)[1] for i, unet in enumerate(relearn(more_cats, marks[-1])) if i in marks]

# %%
figure = curves(
    {"frozen model's pairs": (marks, by_pairs), "8 pictures": (marks, by_pictures)},
    f"Learning again, after {config.iterations} updates of erasing (frozen: {rows['frozen'][1]:.2f})",
    "updates",
    "presence of the cat",
)
assert max(by_pairs) > (rows["frozen"][1] + rows["edited"][1]) / 2
Picture(figure, "Presence of the cat against updates of relearning: it rises within a few")

# %% [markdown]
# **What you saw.** Fewer updates than erasing took, even from a handful of pictures. (CLIP's scale is short
# here: what it marks 0.38 at the left was hardly a cat by eye.) Most of the cat must still have been
# there: what was erased is the way from the word to it. (To be sure, teach the edited model eight
# drawings of something it never knew, and compare.)
#
# Try it yourself: how few updates of inversion, and which guidance, still draw a cat?


# %%
def try_it(updates, scale, seed):
    found = steps[updates].apply(model)
    pair = [look(p, edited, [seed], of=found, guidance_scale=scale)[0] for p in ("a cat", "<learned>")]
    return figures.sheet(torch.stack(pair, 1), ["edited"], ["a cat", "<learned>"], scale=3)


says = "The edited model asked for a cat and given states of {updates} updates, seed {seed}"
knobs = dict(updates=slider(40, 0, 40, 1), scale=slider(4.0, 0.0, 10.0, 0.5), seed=slider(5, 0, 99, 1))
Explorer(try_it, says, run=True, **knobs)

# %% [markdown]
# ## What the numbers say
#
# | who can ... | needs | sees the cat again? |
# |---|---|---|
# | type a prompt | nothing | sometimes: read the worst sentence, not the mean |
# | start from a picture | a picture of a cat | yes, long after the eye has lost it |
# | hand over text states | a few pictures, gradients through the model | yes |
# | train | weights and the same | yes, in a few updates |
#
# ## In three sentences
#
# A presence near the empty prompt's says that *these* prompts, at *this* guidance, from *pure noise*,
# no longer lead to the concept. It does not say that the model cannot draw it. How robust an erasure
# is depends on whom it is to withstand, so say who, and report the best attack, not the average.
#
# In `esd_core`: `invert(model, pictures, unet=edited)`; `step.apply(model)` takes the
# prompt `<learned>`.
# Simplified: CLIP judges, four seeds, one concept, and an attacker who borrows the frozen model's cats.
#
# ## Where next
#
# - Fit states to pictures the model was never taught, say cats upside down. If that works as well,
#   what did bringing the cat back prove?
# - Erase with `train_method="esd-u"` and run this notebook again. Which attack gets harder, and what
#   have the neighbours paid?
