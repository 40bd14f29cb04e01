"""Widgets without a browser: set a value, read the picture."""

import base64
import io

import pytest
from PIL import Image

from lab.checks import check
from lab.controls import WIDGET_VIEW, Explorer, Picture, Predict, Reveal, choice, slider
from lab.plane_figures import panels


def square(grey: int, side: int = 8) -> Image.Image:
    return Image.new("L", (side, side), grey)


def shown(explorer: Explorer) -> Image.Image:
    return Image.open(io.BytesIO(explorer.image.value))


def test_an_explorer_redraws_and_says_what_it_shows():
    explorer = Explorer(square, "grey {grey}", grey=slider(10, 0, 255, 1))
    assert shown(explorer).getpixel((0, 0)) == 10
    explorer.knobs["grey"].value = 200
    assert shown(explorer).getpixel((0, 0)) == 200
    assert explorer.alt == "grey 200" and "grey 200" in explorer.caption.value
    assert explorer.knobs["grey"].continuous_update is False


def test_numbers_are_shown_as_they_were_set():
    explorer = Explorer(lambda eta: square(int(eta)), "eta {eta}", eta=slider(1.0, 0.0, 3.0, 0.25))
    explorer.knobs["eta"].value = 1.2500000000000002  # what JupyterLab's slider reports
    assert explorer.alt == "eta 1.25"


def test_an_explorer_with_a_button_waits_for_it():
    explorer = Explorer(square, "grey {grey}", run=True, grey=choice([10, 200], 10))
    explorer.knobs["grey"].value = 200
    assert shown(explorer).getpixel((0, 0)) == 10
    explorer.button.click()
    assert shown(explorer).getpixel((0, 0)) == 200


def test_a_widget_also_offers_a_plain_picture():
    explorer = Explorer(square, "grey {grey}", grey=slider(10, 0, 255, 1))
    data, metadata = explorer._repr_mimebundle_()
    assert WIDGET_VIEW in data and base64.b64decode(data["image/png"]) == explorer.image.value
    assert metadata["image/png"]["alt"] == "grey 10"


@pytest.mark.parametrize("drawing", [square(3), panels(1)[0]], ids=["PIL", "figure"])
def test_pictures_show_themselves_with_a_description(drawing):
    data, metadata = Picture(drawing, "a square")._repr_mimebundle_()
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 4
    assert metadata["image/png"]["alt"] == "a square" and "a square" in data["text/plain"]


def test_a_prediction_is_made_before_it_is_judged():
    prediction = Predict("Which?", ["towards more data", "away from the data"])
    assert prediction.value is None and check("1.2", prediction).status == "empty"
    prediction.choose("away from the data")
    assert check("1.2", prediction).status == "wrong" and "Noted" in prediction.note.value
    prediction.choose("towards more data")
    assert check("1.2", prediction)
    data = prediction._repr_mimebundle_()
    assert WIDGET_VIEW in data and "<li>away from the data</li>" in data["text/html"]


@pytest.mark.parametrize("early", [False, True], ids=["shown, then chosen", "chosen, then shown"])
@pytest.mark.parametrize("knobs", [False, True], ids=["picture", "explorer"])
def test_a_picture_waits_for_its_prediction(early, knobs):
    prediction = Predict("Which?", ["this", "that"])
    content = (
        Explorer(square, "grey {grey}", grey=slider(10, 0, 255, 1))
        if knobs
        else Picture(square(10), "grey 10")
    )
    if early:
        prediction.choose("that")
    reveal = Reveal(prediction, content)
    if not early:
        data, _ = reveal._repr_mimebundle_()
        assert not reveal.opened and "image/png" not in data
        assert "Predict first" in data["text/html"] and "Predict first" in reveal.children[0].value
        prediction.choose("that")
    data, metadata = reveal._repr_mimebundle_()
    assert reveal.opened and data[WIDGET_VIEW]["model_id"] == reveal.model_id
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).getpixel((0, 0)) == 10
    assert metadata["image/png"]["alt"] == "grey 10"
    prediction.choose("this")  # a second thought neither closes nor rebuilds it
    assert reveal.opened


def test_sliders_of_whole_numbers_give_whole_numbers():
    assert isinstance(slider(3, 0, 10, 1).value, int)
    assert isinstance(slider(3.0, 0, 10, 0.5).value, float)
