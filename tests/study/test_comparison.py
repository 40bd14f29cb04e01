"""A comparison made at once, and one made step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from esd_core import DiffusionModel, EraseConfig, erase
from esd_core.sampling import finish, generate
from esd_core.study.comparison import At, compare, comparing

OPTIONS: dict[str, Any] = dict(num_inference_steps=3, negative_prompt="a cat")
PROMPTS, SEEDS = ["a cat", "a dog"], [1, 2]


def test_it_can_be_left_after_every_step_and_comes_out_the_same(tiny: DiffusionModel):
    *_, last = erase(tiny, EraseConfig("a cat", iterations=2))
    steps, seen = comparing(tiny, last.unet, PROMPTS, SEEDS, **OPTIONS), []
    with pytest.raises(StopIteration) as end:
        while True:
            seen.append(next(steps))
            generate(tiny, "a rocket", seeds=[9], num_inference_steps=1)  # somebody else's turn
    columns = ("base", "erased", "negative prompt")
    assert seen == [At(column, step) for column in columns for step in (1, 2, 3)]
    once = compare(tiny, last.unet, PROMPTS, SEEDS, **OPTIONS)
    assert list(once.columns) == list(end.value.value.columns) == list(columns)
    assert all(torch.equal(end.value.value.columns[c], once.columns[c]) for c in columns)
    assert end.value.value.noise_hash == once.noise_hash


def test_nothing_to_draw_is_refused(tiny: DiffusionModel):
    with pytest.raises(ValueError, match="one prompt and one seed"):
        compare(tiny, None, [], SEEDS)
    with pytest.raises(ValueError, match="one prompt and one seed"):
        finish(comparing(tiny, None, PROMPTS, []))


def test_a_text_is_one_prompt_not_its_letters(tiny: DiffusionModel):
    made = compare(tiny, None, "a cat", [0], num_inference_steps=1)
    assert made.prompts == ("a cat",) and made.columns["base"].shape[:2] == (1, 1)
