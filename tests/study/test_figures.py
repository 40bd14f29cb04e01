"""Pictures: sizes, labels that stay inside, curves of any length, files in one piece."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch.testing import assert_close

from esd_core.study import figures
from esd_core.study.comparison import Comparison
from esd_core.study.figures import channels, diverging, sequential

LONG = "an uncommonly long label that goes on about " + "x" * 80


def pictures(rows: int, columns: int, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((rows, columns, 3, side, side), generator=generator)


def comparison(prompts, seeds, columns=("base", "erased")) -> Comparison:
    drawn = pictures(len(prompts), len(seeds), 64)
    return Comparison(tuple(prompts), tuple(seeds), dict.fromkeys(columns, drawn), "0a1b2c3d")


@pytest.fixture
def written(monkeypatch):
    """Everything that is written, with its pen and box: (text, pen, left, top, right, bottom)."""
    seen, write = [], ImageDraw.ImageDraw.text

    def spy(self, at, text, *rest, **options):
        box = self.textbbox(at, text, font=options["font"], anchor=options.get("anchor", "la"))
        seen.append((text, self, *box))
        return write(self, at, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    return seen


def texts(written) -> list[str]:
    return [text for text, *_ in written if text]


# --- pictures ---------------------------------------------------------------------------------


def test_to_pil_rounds_and_clamps():
    image = torch.tensor([[[-1.0, 0.5]], [[0.0, 0.5]], [[2.0, 1.0]]])
    drawn = figures.to_pil(image)
    assert drawn.size == (2, 1) and drawn.mode == "RGB"
    assert [drawn.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 255), (128, 128, 255)]
    assert figures.to_pil(image, size=8).size == (8, 8)


def test_save_png_leaves_nothing_else_behind(tmp_path):
    path = figures.save_png(figures.to_pil(pictures(1, 1)[0, 0]), tmp_path / "new" / "a.png")
    assert Image.open(path).size == (16, 16)
    figures.save_png(figures.loss_figure([1.0]), path)
    assert Image.open(path).width > 300
    assert [f.name for f in path.parent.iterdir()] == ["a.png"]


def test_a_failed_save_keeps_the_former_file(tmp_path):
    class Broken(Image.Image):
        def save(self, file, format):
            file.write_bytes(b"half")
            raise OSError("disk full")

    path = figures.save_png(figures.to_pil(pictures(1, 1)[0, 0]), tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(OSError, match="disk full"):
        figures.save_png(Broken(), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# --- sheets -----------------------------------------------------------------------------------


def test_a_sheet_shows_every_picture_once_enlarged():
    images = torch.stack([torch.full((3, 16, 16), v) for v in (0.1, 0.4, 0.6, 0.9)])
    drawn = np.asarray(figures.sheet(images.unflatten(0, (2, 2)), ["a", "b"], ["c", "d"], scale=3))
    for value in (0.1, 0.4, 0.6, 0.9):
        assert (drawn == round(value * 255)).all(axis=2).sum() == pytest.approx(48**2, abs=50)


def test_large_pictures_are_not_enlarged():
    small = figures.sheet(pictures(1, 1, 32), [""], [""], scale=4)
    large = figures.sheet(pictures(1, 1, 256), [""], [""], scale=4)
    assert small.width - 4 * 32 == large.width - 256


def test_empty_labels_take_no_room():
    bare = figures.sheet(pictures(2, 3), ["", ""], ["", "", ""], scale=2)
    assert bare.width < 3 * 32 + 60 and bare.height < 2 * 32 + 60


@pytest.mark.parametrize("scale", [1, 4])
def test_long_labels_leave_neither_their_room_nor_the_sheet(written, scale):
    labels, value = [LONG, "b", LONG, "a cat on a blue background"], 0.25
    drawn = figures.sheet(torch.full((4, 4, 3, 16, 16), value), labels, labels, scale=scale, title=LONG)
    for text, pen, left, top, right, bottom in written:
        width, height = pen.im.size
        assert left >= -1 and top >= 0 and right <= width and bottom <= height, text
    assert any(text.endswith("…") for text in texts(written))
    whole = (np.asarray(drawn) == round(value * 255)).all(axis=2).sum()
    assert whole == pytest.approx(16 * (16 * scale) ** 2, abs=20)  # no picture is covered


def test_labels_shrink_with_their_pictures(written):
    figures.sheet(pictures(1, 2, 64), [""], ["monochrome", "noto"], scale=1)
    assert texts(written) == ["monochrome", "noto"]


def test_a_label_runs_on_over_columns_without_one(written):
    figures.sheet(pictures(1, 4), [""], ["a cat in noto style", "", "", ""], scale=3)
    assert texts(written) == ["a cat in noto style"]


def test_labels_must_match_the_pictures():
    with pytest.raises(ValueError, match="2 x 3 .*1 row labels"):
        figures.sheet(pictures(2, 3), ["a"], ["", "", ""])


def test_a_comparison_names_models_prompts_seeds_and_noise(written):
    figures.comparison_sheet(comparison(["a cat", ""], [3, 5]))
    assert texts(written)[:4] == ["a cat", "(empty prompt)", "base", "erased"]
    small_print = " ".join(texts(written)[4:])
    assert "3, 5" in small_print and "0a1b2c3d" in small_print


def test_many_prompts_wrap_into_bands(written):
    drawn = figures.comparison_sheet(comparison([f"prompt {i}" for i in range(40)], [0, 1], "ab"))
    assert drawn.width < 1700 and texts(written).count("a") > 1
    assert sum(text.startswith("prompt") for text in texts(written)) == 40


# --- curves -----------------------------------------------------------------------------------


def test_loss_is_on_a_log_axis_beside_the_held_out_error():
    figure = figures.loss_figure([2.0 ** -(i / 4) for i in range(40)], [(0, 1.0), (40, 0.2)])
    assert isinstance(figure, Figure)
    loss, error = figure.axes
    assert loss.get_yscale() == "log" and error.get_yscale() == "linear"
    assert len(loss.lines) == 2  # each update, and their mean
    assert list(error.lines[-1].get_ydata()) == [1.0, 0.2]
    middle = np.interp(20, *loss.lines[1].get_data())
    assert middle == pytest.approx(2.0 ** -(19 / 4), rel=0.1)  # the mean does not lag behind


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "losses",
    [[], [0.5], [0.0, 0.0], [0.02, 0.03], [1.0] * 300, [NAN], [0.5, INF], [NAN, 0.02, 0.03] * 9, [INF] * 30],
)
def test_any_losses_can_be_drawn(losses, tmp_path):
    figure = figures.loss_figure(losses)
    assert len(figure.axes) == 1
    figures.save_png(figure, tmp_path / "loss.png")
    shown = any(0 <= loss < INF for loss in losses)
    assert (len(figure.axes[0].get_yticks()) >= 2) is shown


@pytest.mark.parametrize("error", [NAN, INF, 1e30])
def test_any_held_out_error_can_be_drawn(error, tmp_path):
    figure = figures.loss_figure([0.5, 0.25], [(0, 1.0), (1, error), (2, 0.5)])
    figures.save_png(figure, tmp_path / "loss.png")
    assert list(figure.axes[1].lines[-1].get_ydata())[::2] == [1.0, 0.5]


# --- maps -------------------------------------------------------------------------------------


def test_red_is_positive_blue_negative_and_white_nothing():
    low, middle, high = diverging(torch.tensor([[-2.0, 0.0, 2.0]]), 2.0)[:, 0].T
    assert high[0] > 2 * high[2] and low[2] > 2 * low[0]
    assert_close(middle, torch.ones(3), atol=0.04, rtol=0)


def test_more_is_brighter_and_all_is_clipped():
    drawn = sequential(torch.tensor([[-1.0, 0.0, 0.5, 1.0, 9.0]]), 1.0)
    brightness = drawn.mean(0)[0]
    assert brightness[1] < brightness[2] < brightness[3]
    assert torch.equal(drawn[:, 0, 0], drawn[:, 0, 1])
    assert torch.equal(drawn[:, 0, 3], drawn[:, 0, 4])
    assert sequential(torch.zeros(2, 2), 0.0).isfinite().all()


def test_zero_is_grey_in_a_picture_of_channels():
    drawn = channels(torch.tensor([0.0, 3.0, -9.0, 5.0]).reshape(4, 1, 1))
    assert drawn.flatten().tolist() == [0.5, 1.0, 0.0]
