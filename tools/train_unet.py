"""Train the denoiser and its text encoder: epsilon prediction on Stable Diffusion's schedule.

What is new since the third version, because two styles whose text states nearly coincide cannot be
told apart by any UNet:

- the text encoder is trained with the UNet, at a lower rate. It starts as CLIP's text
  half, and the CLIP that scores pictures stays as it is.
- a batch holds pairs: one object, place, background, noise and t in two styles, so that what
  differs between the two predictions can only come from the style.
- of a pair, each is pushed from what the other should predict: Contrastive Flow Matching (Stoica
  et al., 2025), arXiv 2506.05350, with the hardest negative there is.
- several exponential moving averages are kept; `tools.choose` takes the one that draws best.

Loss weight: Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023), arXiv
2303.09556, gamma = 5. One caption in ten is empty: Classifier-Free Diffusion Guidance (Ho and
Salimans, 2022), arXiv 2207.12598. Where ESD_START names the model before, UNet and text encoder
start from that one's (see `tools.growing`). The UNet's middle has one residual block and no attention, as
BK-SDM (Kim et al., 2023, arXiv 2305.15798) goes without: it pays for the larger pictures' decoding.
"""

from __future__ import annotations

import argparse
import random

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn
from transformers import CLIPTextModel

from tools import checkpoint, growing, latents, train_clip, train_vae
from tools.data import random_caption
from tools.training import Stage

OUT = checkpoint.BUILD / "unet"
SEED = 3
LEARNING_RATE = 6e-4
GROWING_RATE = 2e-4  # after a model that draws already: at 6e-4 it forgets its objects first
TEXT_RATE = 1e-4
MIN_SNR_GAMMA = 5.0
CONTRAST = 0.05
EMA_DECAYS = (0.999, 0.9995, 0.9998)
CAPTIONS = (68, 14, 15, 3)  # weights of naming object and style, the object, the style, neither
TIMESTEPS = 1000


def build_model() -> UNet2DConditionModel:
    """Stable Diffusion's UNet, small: cross-attention at all three resolutions, 9.2 M weights."""
    channels = train_vae.LATENT_CHANNELS
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(48, 128, 192),
        norm_num_groups=16,
        cross_attention_dim=128,
        attention_head_dim=(1, 2, 3),  # diffusers' name; it means the number of heads
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.x's own scheduler settings."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def paired_loss(
    predicted: Tensor, eps: Tensor, x_0: Tensor, snr: Tensor, named: Tensor, contrast: float
) -> Tensor:
    """Min-SNR loss of pictures `(B, C, H, W)`, of which 2 i and 2 i + 1 are a pair.

    A pair shares eps and t. x_t is the other picture noised by eps + sqrt(SNR) (x_0 - x_0_other):
    from that a prediction whose caption names the style (`named`) is pushed, by
    `contrast / (1 + SNR)` of its squared distance. It fades with the noise, where the answer is
    plain to see in x_t and a push would only draw the other style's negative.
    """
    other = x_0.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    eps_other = eps + snr.sqrt()[:, None, None, None] * (x_0 - other)
    near = (predicted - eps).square().mean(dim=(1, 2, 3))
    far = (predicted - eps_other).square().mean(dim=(1, 2, 3))
    push = contrast / (1 + snr) * named
    return (snr.clamp(max=MIN_SNR_GAMMA) / snr * (near - push * far)).mean()


class Trainer:
    """What one update needs; `loss(step)` is the denoising error of a seeded batch of pairs."""

    def __init__(
        self, chunks: int, device: torch.device, contrast: float = CONTRAST, compiled: bool = False
    ) -> None:
        self.latents, self.labels = latents.build(chunks, device)
        self.tokenizer = growing.words()
        read = growing.START / "text_encoder" if growing.START else train_clip.OUT
        self.text_encoder = CLIPTextModel.from_pretrained(read).float().to(device)
        self.unet = build_model().to(device)
        self.predict = torch.compile(self.unet) if compiled else self.unet
        self.scheduler, self.device, self.contrast = build_scheduler(), device, contrast

    def draw(self, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_0 and eps `(2 pairs, C, 16, 16)`, t `(2 pairs,)`, labels `(2 pairs, 3)`.

        t is stratified: each pair takes it from a slice of its own, which steadies the loss.
        """
        groups = torch.randint(len(self.latents), (pairs, 1), generator=generator)
        noise = torch.rand(pairs, self.latents.shape[1], generator=generator)
        styles = noise.argsort(1)[:, :2]
        x_0 = self.latents[groups, styles].flatten(0, 1).float()
        eps = torch.randn(pairs, *x_0.shape[1:], generator=generator).repeat_interleave(2, dim=0)
        within = torch.rand(pairs, generator=generator)
        t = ((torch.arange(pairs) + within) / pairs * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
        return x_0, eps, t.repeat_interleave(2), self.labels[groups, styles].flatten(0, 1)

    def encode(self, prompts: list[str]) -> Tensor:
        """Prompts -> `(B, 16, 128)` text states."""
        ids = self.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self.device)).last_hidden_state

    def loss(self, step: int, batch: int) -> Tensor:
        """The paired loss of update `step`."""
        generator, rng = checkpoint.step_generator(SEED, step), random.Random(step)
        x_0, eps, t, labels = self.draw(batch // 2, generator)
        captions = [random_caption(x, rng, weights=CAPTIONS) for x in labels.tolist()]
        named = torch.tensor([float(what[1] >= 0) for _, what in captions])
        snr, x_t = compute_snr(self.scheduler, t), self.scheduler.add_noise(x_0, eps, t)
        x_0, eps, t, named, snr, x_t = (x.to(self.device) for x in (x_0, eps, t, named, snr, x_t))
        with checkpoint.autocast(self.device):
            predicted = self.predict(x_t, t, self.encode([words for words, _ in captions])).sample
        return paired_loss(predicted.float(), eps, x_0, snr, named, self.contrast)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW with a rate for each half; text states that are never read are not moved."""
        groups = [
            {"params": list(self.unet.parameters()), "lr": GROWING_RATE if growing.START else LEARNING_RATE},
            {"params": list(self.text_encoder.parameters()), "lr": TEXT_RATE},
        ]
        return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)


def write(trainer: Trainer, averages: dict[str, EMAModel]) -> None:
    """A folder for each average, with the UNet and its text encoder."""
    weights = [*trainer.unet.parameters(), *trainer.text_encoder.parameters()]
    for name, average in averages.items():
        average.store(weights)
        average.copy_to(weights)
        trainer.unet.save_pretrained(OUT / name / "unet")
        trainer.text_encoder.save_pretrained(OUT / name / "text_encoder")
        average.restore(weights)


def main(updates: int, batch: int, chunks: int, contrast: float, compiled: bool) -> None:
    """Train (or go on training) and write the averaged weights to folders of `unet`."""
    torch.manual_seed(SEED)
    trainer = Trainer(chunks, checkpoint.pick_device(), contrast, compiled)
    if growing.START:
        print("fresh:", *growing.unet(trainer.unet, growing.START / "unet"), flush=True)
    both: list[nn.Module] = [trainer.unet, trainer.text_encoder]
    weights = [p for module in both for p in module.parameters()]
    averages = {f"ema_{d}": EMAModel(weights, decay=d, foreach=True) for d in EMA_DECAYS}
    parts = {"unet": trainer.unet, "text_encoder": trainer.text_encoder, **averages}
    stage = Stage("unet", trainer.optimizer(), updates, **parts)
    for made in stage.train(lambda step: trainer.loss(step, batch), every=250):
        for average in averages.values():
            average.step(weights)
        if made % 1000 == 0:
            write(trainer, averages)
    write(trainer, averages)
    stage.record(batch=batch, pictures=trainer.labels[..., 0].numel(), start=str(growing.START))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--chunks", type=int, default=50, help="of 240 pictures each")
    parser.add_argument("--contrast", type=float, default=CONTRAST)
    parser.add_argument(
        "--compiled", action="store_true", help="a third faster after minutes; needs a C++ compiler"
    )
    main(**vars(parser.parse_args()))
