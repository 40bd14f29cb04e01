# %% [markdown]
# # Which line erases?
#
# 25 minutes, CPU. Needs: notebook 04 (the erasing target). Afterwards you can
#
# - say of every tensor in the loop which model made it and whether it has gradients,
# - write the loop that fine-tunes, and find the one line that changes weights,
# - explain where x_t comes from when there is no data set.

# %% tags=["setup"]
import torch

from esd_core import EraseConfig, erase, generate, load_model, preset, sample, select
from esd_core.denoise import predict, to_x_0
from esd_core.erasure import shared_copy
from esd_core.study import figures
from lab.checks import check, exercises
from lab.controls import Picture, Predict, Reveal

model = load_model("emoji")
CONCEPT = "a cat"
concept, null = model.encode([CONCEPT]), model.encode([""])  # text states of the two prompts

# %% [markdown]
# ## What is being fine-tuned on?
#
# One update needs a noisy latent `x_t`, its `t`, and a prompt. The cell after the question makes
# twelve of them.

# %%
origin = Predict(
    "The x_t that ESD learns from is ...",
    [
        "a picture of the concept from the training set, noised",
        "noise that a model has partly turned into a picture of the concept",
        "pure noise, whatever t is",
    ],
)
origin

# %% tags=["solution"]
origin.choose("noise that a model has partly turned into a picture of the concept")

# %%
trajectory = list(sample(model, CONCEPT, seeds=[3], guidance_scale=3.0, num_inference_steps=12))
shown = trajectory[::2]
rows = [model.decode(torch.cat([getattr(s, name) for s in shown])) for name in ("x_t", "x_0")]
sheet = figures.sheet(
    torch.stack(rows),
    ["x_t: what the model is given", "x_0: what it takes it for"],
    [f"t = {int(s.t)}" for s in shown],
    title=f"frozen model, prompt {CONCEPT!r}, seed 3, guidance 3",
)
Reveal(origin, Picture(sheet, "From noise to a cat, and the picture that each prediction implies"))

# %%
check("5.1", origin)

# %% [markdown]
# **What you saw.** A sampler that starts from random numbers and stops early. Nothing was read from
# disk but the model. So "the images it is fine-tuned on" are its own half-finished drawings. (To erase
# one given picture the authors noise that picture instead, as they say in issue 30 of their
# repository, rohitgandikota/erasing: here `x_t_source="images"`.)
#
# ## Which model gives which tensor?
#
# `frozen` and `edited` are functions of `(x_t, t, text states)` that return a noise prediction.
# Write the loss of one update, the mean of squared differences.


# %%
def esd_loss(frozen, edited, x_t, t, concept, null, eta):
    ### BEGIN SOLUTION
    eps_null, eps_concept = frozen(x_t, t, null), frozen(x_t, t, concept)
    target = eps_null - eta * (eps_concept - eps_null)
    eps_edited = edited(x_t, t, concept)
    return (eps_edited - target).square().mean()
    ### END SOLUTION


# %%
verdict = check("5.2", esd_loss)
if not verdict:
    esd_loss = exercises("05")["5.2"].answer  # so that the rest runs; come back to it
verdict

# %% [markdown]
# Now with real models. The edited one shares every weight with the frozen one but the linear layers
# of its cross-attention, `esd-x`: these are copies, and want gradients.


# %%
def edited_copy():
    """A new edited UNet and its trainable parameters."""
    names = select(model.unet, "esd-x")
    unet = shared_copy(model.unet, names)
    return unet, [unet.get_parameter(name).requires_grad_() for name in names]


def as_function(unet):
    return lambda x_t, t, embeds: predict(unet, x_t, t, embeds)


edited, trained = edited_copy()
x_t, t = trajectory[5].x_t, trajectory[5].t  # source: the frozen model's own trajectory, above

# %%
eps_null, eps_concept = predict(model.unet, x_t, t, null), predict(model.unet, x_t, t, concept)
eps_edited = predict(edited, x_t, t, concept)
target = eps_null - 1.0 * (eps_concept - eps_null)  # eta = 1
print(f"tensor       model    prompt    t    gradients   shape {tuple(x_t.shape)}")

# %%
for name, who, prompt, eps in (
    ("eps_null", "frozen", "''", eps_null),
    ("eps_concept", "frozen", repr(CONCEPT), eps_concept),
    ("target", "frozen", "both", target),
    ("eps_edited", "edited", repr(CONCEPT), eps_edited),
):
    print(f"{name:12} {who:8} {prompt:9} {int(t):<4} {eps.requires_grad}")

# %%
implied = [
    to_x_0(e.detach(), x_t, model.alpha_bar[t], "epsilon")
    for e in (eps_null, eps_concept, target, eps_edited)
]

# %%
Picture(
    figures.sheet(
        model.decode(torch.cat(implied))[None],
        [f"x_0 at t = {int(t)}"],
        ["eps_null (frozen)", "eps_concept (frozen)", "target (frozen)", "eps_edited (trained)"],
        scale=2,
        title=f"what is left of one x_t if its noise is ...; x_t from the frozen model, {CONCEPT!r}",
    ),
    "Pictures implied by four noise predictions at the same noisy latent",
)

# %% [markdown]
# **What you saw.** Only `eps_edited` has gradients. The mistake in many notes, "e_n comes from the
# frozen model", would leave nothing to learn. (In the authors' 2023 script `train-esd.py` e_n is what
# the *trained* model says to the concept's own prompt; n marks no negative prompt.) And no picture of
# a data set occurs in the loss, only predictions at the same x_t.
#
# ## What is the loss before anything is learned?
#
# The two models still have the same weights. Let d = eps_concept - eps_null.

# %%
first_loss = Predict("The very first loss is ...", ["0", "mean(d^2)", "(1 + eta)^2 * mean(d^2)"])
first_loss

# %% tags=["solution"]
first_loss.choose("(1 + eta)^2 * mean(d^2)")

# %%
eta = 1.0
loss = (eps_edited - target).square().mean()
d = eps_concept - eps_null
assert torch.equal(eps_edited, eps_concept)  # same weights, same bits
assert torch.allclose(loss, (1 + eta) ** 2 * d.square().mean())
print(f"loss {loss.item():.5f}, mean(d^2) {d.square().mean().item():.5f}")
check("5.3", first_loss)

# %% [markdown]
# ## Which line changes the weights?

# %%
line = Predict(
    "Weights change in ...",
    ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()", "loss = esd_loss(...)"],
)
line

# %% tags=["solution"]
line.choose("optimizer.step()")

# %%
optimizer = torch.optim.Adam(trained, lr=1e-4)
before = [p.detach().clone() for p in trained]

# %%
for name, call in (
    ("optimizer.zero_grad()", optimizer.zero_grad),
    ("loss.backward()", loss.backward),
    ("optimizer.step()", optimizer.step),
):
    call()
    changed = sum(not torch.equal(p, b) for p, b in zip(trained, before, strict=True))
    grads = sum(p.grad is not None for p in trained)
    print(f"{name:22} tensors with a gradient: {grads:3}   changed: {changed:3} of {len(trained)}")

# %%
assert changed > 0.9 * len(trained)
assert all(p.grad is None for p in model.unet.parameters())
assert torch.equal(predict(model.unet, x_t, t, concept), eps_concept)  # the frozen model: as ever
assert not torch.equal(predict(edited, x_t, t, concept), eps_edited)
check("5.4", line)

# %% [markdown]
# **What you saw.** `backward` wrote a direction beside each trainable weight, `step` moved them along
# it. The frozen model has neither, and predicts the same bits as before.
#
# Now write the loop. `start()` returns fresh parameters and a function that computes their loss on
# new examples. Fill in the three lines, then return `[p.detach() for p in parameters]`.


# %%
def descend(start, updates, learning_rate=1e-4):
    parameters, loss_of = start()
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    for _ in range(updates):
        loss = loss_of()
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach() for p in parameters]
    ### END SOLUTION


# %%
verdict = check("5.5", descend)
if not verdict:
    descend = exercises("05")["5.5"].answer  # so that the rest runs; come back to it
verdict

# %% [markdown]
# ## Is this really what the library does?
#
# Hand your loop the whole method: in each update, a fresh trajectory of the *edited* model, stopped
# at a random step, as in the paper. `esd_core.erase` throws the same dice in the same order: which
# concept (there is one), the seed, the step.

# %%
config = EraseConfig(
    CONCEPT,
    x_t_source="edited",
    points="last",
    trajectories=1,
    redraw_every=1,
    held_out=0,
    batch_size=1,
    learning_rate=1e-4,
    iterations=5,
)


# %%
def draw_x_t(unet, dice):
    torch.multinomial(torch.ones(1), 1, generator=dice)
    seed = torch.randint(2**31, (1,), generator=dice).tolist()
    k = int(torch.randint(config.num_inference_steps, (), generator=dice))
    *_, last = sample(
        model,
        CONCEPT,
        seeds=seed,
        unet=unet,
        guidance_scale=config.start_guidance,
        num_inference_steps=config.num_inference_steps,
        stop_at=k + 1,
        keep_pair=False,
    )
    return last.x_t, last.t


# %%
def start():
    unet, parameters = edited_copy()
    dice = torch.Generator().manual_seed(config.seed)
    frozen, student = as_function(model.unet), as_function(unet)

    def loss_of():
        x_t, t = draw_x_t(unet, dice)  # no gradients flow into it
        return esd_loss(frozen, student, x_t, t, concept, null, config.eta)

    return parameters, loss_of


# %%
by_hand = descend(start, config.iterations, config.learning_rate)
*_, last = erase(model, config)
library = last.erasure.tensors
same = [torch.equal(a, b) for a, b in zip(by_hand, library.values(), strict=True)]
numbers = sum(a.numel() for a in by_hand)
furthest = max((a - b).abs().max() for a, b in zip(by_hand, library.values(), strict=True))

# %%
print(
    f"equal bit for bit: {sum(same)} of {len(same)} tensors ({numbers:,} numbers) after {last.iteration} updates"
)
print(f"largest difference: {furthest:g}")  # not 0? the same algebra in another order rounds differently

# %% tags=["solution"]
assert all(same)

# %% [markdown]
# **What you saw.** Thirty lines of notebook and the library end in the same bits: there is nothing
# else inside.
#
# ## And a hundred updates?
#
# Most of the time went into drawing x_t, one trajectory each. But a trajectory of the *frozen* model passes twelve x_t
# and computes eps_null and eps_concept at each, whatever the edited model is: draw eight once, keep
# their examples, and an update costs only the edited model's own work.

# %%
prompts = [CONCEPT, "a dog", "a rocket"]
stages, losses, errors = {}, [], []
for step in erase(model, EraseConfig(CONCEPT, iterations=100, batch_size=2, learning_rate=3e-4)):
    losses += [] if step.loss is None else [step.loss]
    if step.iteration in (0, 1, 10, 30, 100):
        errors.append((step.iteration, step.held_out_error()))
        stages[f"after {step.iteration}"] = generate(
            model, prompts, seeds=[3] * 3, unet=step.unet, num_inference_steps=12
        )

# %%
print(f"{step.seconds:.1f} s for drawing {sum(map(len, step.examples.train))} examples and 100 updates")

# %%
Picture(figures.loss_figure(losses, errors), "Loss of 100 updates and error on held-out examples")

# %% tags=["gallery"]
everything = torch.stack(list(stages.values()))
Picture(
    figures.sheet(everything, list(stages), prompts, title="edited model, seed 3 in every picture"),
    "A cat, a dog and a rocket from the same noise after 0, 1, 10, 30 and 100 updates",
)

# %%
moved = (everything[-1] - everything[0]).square().mean(dim=(1, 2, 3)).sqrt()
print("root-mean-square change of the picture:", dict(zip(prompts, moved.tolist(), strict=True)))
by_update = dict(errors)  # of the frozen model's distance to the target
assert abs(by_update[0] - 1) < 1e-3 and by_update[100] < 0.3 and 0.4 < by_update[10] < 0.7
assert moved[1] > 0.6 * moved[0]  # the dog's picture has changed almost as much as the cat's
assert torch.equal(stages["after 0"], generate(model, prompts, seeds=[3] * 3, num_inference_steps=12))

# %% [markdown]
# **What you saw.** Nought updates: the base model, bit for bit. Ten updates take away almost half of the
# error, and the cat is still there. Thirty take the cat. The next seventy make the loss smaller still, and
# take the dog, whose name was in no example: the weights are shared. (Notebook 06 holds other prompts in
# place while it erases.) A low loss says that eps_edited fits its target at the x_t visited. It does not say "erased", nor "nothing else
# changed"; only pictures of the concept and of other things do.
#
# ## Paper or script?
#
# The authors' 2023 script and the one of 2025 differ. Which of these would you expect to matter?

# %%
old, new = (preset(name, CONCEPT).to_dict() for name in ("paper", "official-2025"))
for option in old:
    if old[option] != new[option]:
        print(f"{option:15} paper: {old[option]!s:10} 2025: {new[option]}")

# %% [markdown]
# ## In three sentences
#
# The model draws its own x_t; the frozen weights give the target and the edited ones the answer.
# Only `optimizer.step()` changes weights, and only those that were selected.
# `for step in erase(model, config): ...` is that loop.
#
# ## Where next
#
# 1. Set `x_t_source="frozen"` in the five updates: by hand, change one word in `start`. How far apart
#    are the two runs' weights after 5 updates, and after 50?
# 2. Run the hundred updates at learning rates 1e-4 and 1e-3, and stop each at the same held-out
#    error. Which of them has changed the dog less?
