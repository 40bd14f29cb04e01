"""The live erasure as a class: it runs headless, stops, and keeps what it has learned."""

import io

import pytest
import torch
from PIL import Image

from lab.controls import choice, slider
from lab.erasing_controls import LiveErasure, live_config, stacked


@pytest.fixture
def live(tiny):
    knobs = {
        "concept": choice(["a cat", "a dog"]),
        "method": choice(["esd-x", "esd-u"]),
        "eta": slider(1.0, 0.0, 3.0, 0.25),
        "updates": slider(4, 0, 8, 1),
    }
    return LiveErasure(tiny, knobs, lambda concept: [concept, "a rocket"], every=2, steps=2)


def test_a_run_leaves_an_erasure_a_picture_and_its_measurements(live, tiny):
    assert live.erasure is None and "Nothing erased" in live._repr_mimebundle_()[0]["text/html"]
    live.button.click()
    assert len(live.losses) == 4 and [i for i, _ in live.errors] == [0, 2, 4]
    assert live.errors[0][1] == pytest.approx(1, abs=1e-3)
    assert live.erasure.provenance["iterations_done"] == 4
    live.erasure.check(tiny)
    data, metadata = live._repr_mimebundle_()
    assert data["image/png"] and "a rocket" in metadata["image/png"]["alt"]
    picture = Image.open(io.BytesIO(live.image.value))
    assert picture.width > 100 and picture.height > 300
    assert "Done after 4" in live.caption.value and not live.button.disabled


def test_the_second_run_of_a_concept_draws_no_examples(live):
    live.run()
    kept = live.kept["a cat"][0]
    live.knobs["eta"].value = 2.0
    live.run()
    assert live.kept["a cat"][0] is kept
    live.knobs["concept"].value = "a dog"
    live.run()
    assert set(live.kept) == {"a cat", "a dog"} and live.prompts == ["a dog", "a rocket"]


def test_an_interrupt_keeps_what_was_learned(live):
    def interrupt(change):
        if live.errors[-1][0] == 2:
            raise KeyboardInterrupt

    live.image.observe(interrupt, names="value")
    live.run()
    assert live.erasure.provenance["iterations_done"] == 2 and "Stopped" in live.caption.value
    assert not live.button.disabled


def test_no_update_is_the_frozen_model(live, tiny):
    live.knobs["updates"].value = 0
    live.run()
    weights = dict(tiny.unet.named_parameters())
    assert all(torch.equal(t, weights[n].float()) for n, t in live.erasure.tensors.items())


def test_methods_that_change_many_weights_take_smaller_steps():
    cross, rest = (live_config("a cat", method, 1.0, 5) for method in ("esd-x", "esd-u"))
    assert rest.learning_rate < cross.learning_rate and cross.iterations == 5


def test_stacked_pictures_keep_their_size():
    wide, tall = Image.new("RGB", (30, 10), "red"), Image.new("RGB", (10, 20), "blue")
    both = stacked(wide, tall)
    assert both.size == (30, 30)
    assert both.getpixel((5, 25)) == (0, 0, 255) and both.getpixel((25, 25)) == (255, 255, 255)
