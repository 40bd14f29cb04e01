"""The app's callbacks as plain functions, then the served app through its API."""

from __future__ import annotations

import base64
import io
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

import app
from esd_core import DiffusionModel, Erasure, erase, preset
from esd_core.study.watched_prompts import to_watch
from esd_core.vocabulary import Concept, Vocabulary
from tests.conftest import WORDS
from ui.compare import tab as compare_tab
from ui.erase import estimate, run_record
from ui.erase import fields as form
from ui.erase import run as live
from ui.erase import tab as erase_tab
from ui.erase.run_record import RunMoment
from ui.look import theme
from ui.server import memory, stream
from ui.server.stream import Job, halt
from ui.shared import erasure_list, erasure_stages, prompts

CONCEPTS = (
    Concept("cat", "a cat", "object", "animals"),
    Concept("dog", "a dog", "object", "animals"),
    Concept("rocket", "a rocket", "object", "vehicles"),
    Concept("noto style", "noto style", "style", "style"),
)
COMPARE: dict[str, Any] = dict(
    prompt="a cat\na dog",
    seeds="1, 2",
    strength=1.0,
    guidance_scale=3.0,
    num_inference_steps=3,
    scheduler="ddim",
)


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Gradio keeps the files it serves."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


def fields(**changes: Any) -> dict[str, Any]:
    """What the Erase tab sends when nothing was touched, but for `changes`."""
    names = ("train_method", "eta", "seed", *form.FILLED)
    values = {name: getattr(preset("live", "x", train_method="esd-x"), name) for name in names}
    shown = dict(concept="cat", erase_from="", preset="live", randomise=False, iterations=6, batch_size=4)
    return {**values, **shown, **changes}


def last(moments: Iterator[RunMoment], part: str) -> Any:
    """The last value a run put on one part of the page."""
    return [v for s in moments if (v := getattr(s, part)) is not stream.SKIP][-1]


def erased(model: DiffusionModel, **changes: Any) -> Erasure:
    return last(erase_tab.erase(model, **fields(**changes)), "erasure")


def compared(model: DiffusionModel, erasure: Erasure | None, **asked: Any) -> compare_tab.ComparisonMoment:
    """The end of a comparison."""
    *_, end = compare_tab.drawing(model, erasure, **asked)
    return end


# --- words


def test_a_name_becomes_its_phrase_and_other_known_words_stay(model: DiffusionModel):
    assert prompts.phrase(model, " Cat ") == "a cat"
    assert prompts.phrase(model, "a cat in noto style") == "a cat in noto style"


def test_words_never_seen_are_named(model: DiffusionModel):
    with pytest.raises(ValueError, match="never seen: zeppelin; it knows the 3 objects, 1 styles"):
        prompts.phrase(model, "a zeppelin")
    with pytest.raises(ValueError, match="did you mean rocket"):
        prompts.phrase(model, "rockett")
    with pytest.raises(ValueError, match="name a concept"):
        prompts.phrase(model, "  ")


def test_the_watched_prompts_are_the_concept_its_neighbour_and_a_stranger(model: DiffusionModel):
    assert [w.prompt for w in to_watch(model, "a cat")] == ["a cat", "a dog", "a rocket"]
    assert to_watch(model, "noto style")[0].prompt == "a cat in noto style"
    roles = [w.role for w in to_watch(model, "a red cat in noto style")]
    assert roles == ["the concept", "a neighbour", "unrelated"]


def test_a_control_is_nothing_that_is_erased_too(model: DiffusionModel):
    words = replace(
        model,
        vocabulary=Vocabulary(
            (
                *CONCEPTS,
                Concept("red", "red", "object", "animals"),
                Concept("blue", "blue", "object", "hearts"),
            ),
            frozenset(WORDS),
        ),
    )

    def controls(**changes: Any) -> dict[str, str]:
        config = form.read(words, **fields(**changes))
        watched = to_watch(words, config.concepts)
        assert len({w.prompt for w in watched}) == len(watched)
        return {w.role: w.prompt for w in watched if w.role in ("a neighbour", "unrelated")}

    assert controls() == {"a neighbour": "a dog", "unrelated": "a rocket"}
    assert controls(concept="cat, rocket") == {"a neighbour": "a dog", "unrelated": "blue"}
    assert controls(concept="cat, dog") == {"a neighbour": "red", "unrelated": "a rocket"}
    assert controls(erase_from="a dog in noto style")["a neighbour"] == "red"
    of_compare = [w.prompt for w in to_watch(words, "a cat, a rocket")]
    assert of_compare == ["a cat, a rocket", "a dog", "blue"]


def test_a_list_of_two_has_one_control(tiny: DiffusionModel):
    two = replace(tiny, vocabulary=Vocabulary.of_labels(["a cat", "a dog"]))
    assert [w.prompt for w in to_watch(two, "a cat")] == ["a cat", "a dog"]
    assert [w.prompt for w in to_watch(two, "a cat, a dog")] == ["a cat, a dog"]


def test_text_that_names_no_concept_has_no_neighbour(model: DiffusionModel):
    listed = [(w.role, w.prompt) for w in to_watch(model, "red")]
    assert listed == [("the concept", "red"), ("unrelated", "a rocket")]


def test_a_model_without_vocabulary_watches_the_empty_prompt(tiny: DiffusionModel):
    assert [w.prompt for w in to_watch(tiny, "anything")] == ["anything", ""]


# --- the Erase tab


def test_a_run_streams_every_part_of_the_page(model: DiffusionModel):
    before = {n: p.clone() for n, p in model.unet.named_parameters()}
    shown = list(erase_tab.erase(model, **fields(seed=5)))
    assert shown[0].seed == 5 and shown[0].erasure is None
    assert "6 updates in" in shown[-1].status
    strips = [s.strip for s in shown if s.strip is not stream.SKIP]
    assert [strip.count("<img") for strip in strips[:2]] == [0, 6] and "<img" in strips[-1]
    assert 'alt="a cat, seed 1, after 6 updates"' in strips[-1]
    assert list(shown[-1].loss["update"]) == [1, 2, 3, 4, 5, 6]
    assert Path(shown[-1].download).name == "a-cat_esd-x_6-updates.safetensors"
    assert all(torch.equal(before[n], p) for n, p in model.unet.named_parameters())


def test_the_download_is_the_erasure(model: DiffusionModel, cache: Path):
    shown = list(erase_tab.erase(model, **fields()))
    kept = [s.erasure for s in shown if s.erasure is not stream.SKIP][-1]
    path = Path(shown[-1].download)
    assert cache in path.parents
    loaded = Erasure.load(path)
    assert all(torch.equal(loaded.tensors[n], t) for n, t in kept.tensors.items())


def test_a_run_that_holds_nothing_out_says_why_its_error_stays_empty(model: DiffusionModel):
    quick = dict(iterations=1, num_inference_steps=2, batch_size=1, preserve=0.0)
    told = {}
    for name in ("official-2025", "live"):
        begun, *_, end = erase_tab.erase(model, **fields(preset=name, **quick))
        told[name] = (begun.error.caption, len(end.error))
    assert told == {"official-2025": (run_record.NOTHING_HELD_OUT, 0), "live": ("", 2)}


def test_zero_iterations_change_nothing(model: DiffusionModel):
    strip = last(erase_tab.erase(model, **fields(iterations=0)), "strip")
    before, now = re.findall(r'src="([^"]+)" alt="a cat, seed 1, (?:before|after)', strip)
    assert before == now


def test_stop_keeps_what_was_yielded_last(model: DiffusionModel):
    job, kept = Job(), None
    for shown in erase_tab.erase(model, job, **fields(iterations=10_000)):
        kept = kept if shown.erasure is stream.SKIP else shown.erasure
        if kept is not None and kept.provenance["iterations_done"] > 0:
            halt(job)
    status, download, go, end, *_ = erase_tab.ended(model, job, kept, None)
    assert go.interactive and not end.interactive
    assert kept is not None and "Stopped; what was learned is kept" in status
    stored = Erasure.load(download)
    assert stored.provenance["iterations_done"] == kept.provenance["iterations_done"]
    stored.check(model)


def test_stop_before_anything_was_learned_says_so(model: DiffusionModel):
    stopped = Job(stopped=True)
    assert list(erase_tab.erase(model, stopped, **fields())) == []
    status, download, go, end, *_ = erase_tab.ended(model, stopped, None, None)
    assert "before anything was learned" in status and download is stream.SKIP
    assert go.interactive and not end.interactive


def test_stop_before_a_run_had_a_place_leaves_the_former_one(model: DiffusionModel):
    former = list(erase_tab.erase(model, **fields(iterations=1)))[-1]
    stopped = (Job(stopped=True), former.erasure, former.paused)
    status, download, _, _, more, *_ = erase_tab.ended(model, *stopped)
    assert "Stopped before it began; the run before it is as it was." in status
    assert more.interactive and Path(download).name.startswith("a-cat")


def test_stop_speaks_of_the_run_and_not_of_the_erasure_in_use(model: DiffusionModel):
    ready_made = Erasure({}, "", {"config": {"concepts": [{"concept": "a dog"}]}})
    status, download, *_ = erase_tab.ended(model, Job(stopped=True), ready_made, None)
    assert "before anything was learned" in status
    assert Path(download).name.startswith("a-dog")  # what was there to take away still is


def test_a_run_that_fails_says_what_it_leaves(model: DiffusionModel):
    former = list(erase_tab.erase(model, **fields(iterations=1)))[-1]
    other = Erasure({}, "", {"config": {"concepts": [{"concept": "a dog"}]}})  # chosen since
    kept = (other, former.paused)
    status, download, *_ = erase_tab.ended(model, Job(), *kept, failed=True)
    assert "Failed before it began; the run before it is as it was." in status
    assert Path(download).name.startswith("a-cat")
    refused = Job()
    with pytest.raises(gr.Error, match="iterations is -1"):
        list(erase_tab.go_on(model, former.paused, -1, refused))
    assert "before it began" in erase_tab.ended(model, refused, *kept, failed=True)[0]
    learned = Job(erasure=former.erasure)
    status, download, *_ = erase_tab.ended(model, learned, other, None, failed=True)
    assert "1 update in" in status and Path(download).name.startswith("a-cat")


def test_a_slow_run_tells_its_progress(model: DiffusionModel, monkeypatch):
    monkeypatch.setattr(live, "REFRESH", 0.0)  # every update is due
    statuses = [s.status for s in erase_tab.erase(model, **fields(iterations=5))]
    told = [n for n in range(1, 6) if any(f"update {n} of 5" in str(s) for s in statuses)]
    assert told == [1, 2, 3, 4, 5]


def test_stop_ends_the_collecting_of_examples(model: DiffusionModel, monkeypatch):
    monkeypatch.setattr(stream, "TICK", 0.0)
    job, seen = Job(), []
    for shown in erase_tab.erase(model, job, **fields(seed=77)):
        seen.append(str(shown.status))
        if sum("Collecting" in status for status in seen) == 3:
            halt(job)
    assert not any("update 1" in status for status in seen)
    assert "before anything was learned" in erase_tab.ended(model, job, None, None)[0]


def test_the_end_of_a_run_that_nobody_stopped_leaves_its_last_words(model: DiffusionModel):
    status, download, *_ = erase_tab.ended(model, Job(), None, None)
    assert status is download is stream.SKIP


def test_statuses_come_no_faster_than_one_can_read(model: DiffusionModel):
    wanted = fields(iterations=3)
    config = form.read(model, **wanted)
    every = list(live.run(model, config, to_watch(model, config.concepts)))
    shown = list(stream.thinned(iter(every)))
    assert len(shown) < len(every)
    assert [s for s in shown if s.strip is not stream.SKIP] == [
        s for s in every if s.strip is not stream.SKIP
    ]


@pytest.mark.parametrize("after", [0, 2, 6])
def test_a_continued_run_ends_as_an_uninterrupted_one(model: DiffusionModel, after: int):
    wanted = fields(seed=4, concept="cat, dog")
    expected = list(erase_tab.erase(model, **wanted))[-1]
    paused = None
    for shown in erase_tab.erase(model, **{**wanted, "iterations": after}):
        paused = shown.paused if shown.paused is not stream.SKIP else paused
    assert paused is not None and paused.checkpoint.iteration == after
    *_, last_one = erase_tab.go_on(model, paused, 6 - after)
    assert last_one.erasure.hash == expected.erasure.hash
    assert last_one.strip == expected.strip and last_one.loss.equals(expected.loss)


@pytest.mark.parametrize("iterations", [None, -1, 2.5, 10**6])
def test_a_finished_run_goes_on_by_a_number_of_updates(model: DiffusionModel, iterations):
    paused = list(erase_tab.erase(model, **fields(iterations=1)))[-1].paused
    with pytest.raises(gr.Error, match="^.?iterations is .*use a whole number from 0 to 100000"):
        list(erase_tab.go_on(model, paused, iterations))
    *_, end = erase_tab.go_on(model, paused, 2)
    assert end.erasure.provenance["iterations_done"] == 3


def test_a_run_that_goes_on_beyond_its_end_has_stages_there_too(model: DiffusionModel):
    end = list(erase_tab.erase(model, **fields(iterations=4)))[-1]
    began, *_, end = erase_tab.go_on(model, end.paused, 60)
    assert "with the settings that the run began with" in began.status
    reached = [erasure_stages.updates(stage) for stage in erasure_stages.stages(end.erasure)]
    assert reached == [0, 1, 4, 16, 64]


def test_another_strength_does_not_wait_for_the_teacher_again(model: DiffusionModel, monkeypatch):
    list(erase_tab.erase(model, **fields(seed=11)))
    wanted = fields(seed=11, eta=2.0)
    *_, afresh = erase(model, form.read(model, **wanted))

    def refuse(*_: Any) -> None:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr(sys.modules["esd_core.run_state"], "draw", refuse)
    assert last(erase_tab.erase(model, **wanted), "erasure").hash == afresh.erasure.hash
    assert "examples 0 s" in estimate.cost(model, **wanted)


def test_there_must_be_a_run_to_continue(model: DiffusionModel):
    with pytest.raises(gr.Error, match="no run to continue"):
        next(erase_tab.go_on(model, None, 5))


def test_several_concepts_and_what_they_are_erased_from(model: DiffusionModel):
    config = form.read(model, **fields(concept="red,\nblue", erase_from="a red cat, a blue dog"))
    assert [(t.concept, t.erase_from) for t in config.concepts] == [
        ("red", "a red cat"),
        ("blue", "a blue dog"),
    ]
    assert form.read(model, **form.recall(config)) == config
    small = replace(config, micro_batch_size=1, gradient_checkpointing=True)
    assert form.recall(small) == form.recall(config)  # it learns the same
    watched = [w.prompt for w in to_watch(model, config.concepts)]
    assert watched[1:4] == ["a red cat", "a blue dog", "blue"] and len(set(watched)) == len(watched)
    plain = form.read(model, **fields())
    assert to_watch(model, plain.concepts) == to_watch(model, "a cat")
    with pytest.raises(ValueError, match="2 contexts for 1 concepts"):
        form.read(model, **fields(erase_from="a dog, a cat"))


def test_reset_forgets_the_run(model: DiffusionModel):
    cleared = RunMoment(*erase_tab.reset()[: len(RunMoment._fields)])
    assert cleared.erasure is None and cleared.paused is None and "Press Erase" in cleared.status


def test_a_new_seed_is_drawn_and_written_back(model: DiffusionModel):
    seeds = {next(erase_tab.erase(model, **fields(randomise=True))).seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(concept="a zeppelin"), "never seen: zeppelin"),
        (dict(concept=""), "name a concept"),
        (dict(concept="a cat " * 9), "shorten it"),
        (dict(concept="cat, " * 2000), "2000 concepts are too many; erase 16 or fewer a run"),
        (dict(concept="cat, a cat"), "'a cat' is named twice; name each concept once"),
        (dict(eta=99), "eta is 99; use a number from -20 to 20"),
        (dict(iterations=-1), "iterations is -1; use a whole number from 0 to 100000"),
        (dict(iterations=None), "iterations is None"),
        (dict(train_method="everything"), "unknown train method 'everything'"),
        (dict(preset="fastest"), "unknown preset 'fastest'"),
        (dict(preset="paper", preserve=1.0), "preserve and from_objects need points 'all'"),
    ],
)
def test_bad_input_is_refused_in_the_librarys_words(
    model: DiffusionModel, wrong: dict[str, Any], sentence: str
):
    with pytest.raises(gr.Error) as refused:
        next(erase_tab.erase(model, **fields(**wrong)))
    assert sentence in refused.value.message
    marked = [f for f in form.check(model, **fields(**wrong)) if not f["is_valid"]]
    assert len(marked) == 1 and sentence in marked[0]["message"]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("eta", dict(eta=99)),
        ("concept", dict(concept="a zeppelin")),
        ("erase_from", dict(erase_from="a zeppelin")),
        ("erase_from", dict(erase_from="a cat " * 9)),
        ("erase_from", dict(erase_from="a cat, a dog")),
        ("concept", dict(concept="<|endoftext|>")),
        ("eta", dict(eta=-1)),
        ("eta", dict(eta=0, erase_from="a red cat")),
        ("batch_size", dict(preset="paper", preserve=0.0, batch_size=2)),
        ("train_method", dict(train_method="everything")),
        ("preset", dict(preset="fastest")),
        ("preserve", dict(preset="paper", preserve=1.0)),
    ],
)
def test_the_message_stands_at_the_field_it_is_about(
    model: DiffusionModel, field: str, wrong: dict[str, Any]
):
    marked = dict(zip(fields(), form.check(model, **fields(**wrong)), strict=True))
    assert [name for name, said in marked.items() if not said["is_valid"]] == [field]
    assert all(said["is_valid"] for said in form.check(model, **fields()))


def test_a_run_that_diverges_keeps_its_last_good_state(model: DiffusionModel):
    shown, wild = [], dict(learning_rate=1.0, train_method="full", iterations=60)
    with pytest.raises(gr.Error) as refused:
        for at in erase_tab.erase(model, **fields(**wild)):
            shown.append(at)
    assert "lower the learning rate" in refused.value.message
    kept = [s.erasure for s in shown if s.erasure is not stream.SKIP][-1]
    assert kept.provenance["iterations_done"] == 0  # as it was before the explosion
    assert Erasure.load(shown[-1].download).tensors.keys() == kept.tensors.keys()


def filled(*choice):
    return dict(zip((*form.FILLED, "train_method"), form.fill(*choice), strict=True))


def test_a_preset_fills_the_fields_and_brings_its_method(model: DiffusionModel):
    now = filled("paper", "esd-lora", ("live", "esd-lora"))
    assert (now["iterations"], now["x_t_source"], now["train_method"]) == (1000, "edited", "esd-x")


def test_a_method_fills_in_what_its_preset_has_for_it_and_a_list_that_was_only_looked_at_nothing():
    now = filled("live", "esd-u", ("live", "esd-x"))
    assert now["learning_rate"] == preset("live", "x", train_method="esd-u").learning_rate
    assert all(
        value is stream.SKIP for name, value in now.items() if "rate" not in name and "method" not in name
    )
    assert filled("live", "esd-x", ("live", "esd-lora"))["preserve"] == 0.5
    assert all(value is stream.SKIP for value in form.fill("live", "esd-x", ("live", "esd-x")))
    assert all(value is stream.SKIP for value in form.fill("edit", "esd-x", ("edit", "esd-lora")))


@pytest.mark.parametrize(
    ("eta", "erase_from", "official"),
    [(1.0, "", "2"), (2.5, " , ", "3.5"), (2.5, "a red cat", "2.5"), (-1, "", "0")],
)
def test_eta_is_told_in_the_units_of_the_official_script(eta, erase_from, official):
    assert f"--negative_guidance {official} of" in form.in_both_units(eta, erase_from)
    assert "negative_guidance" not in form.in_both_units(None, erase_from)


def test_only_methods_that_change_something_are_offered(model: DiffusionModel):
    offered = form.methods(model)
    assert "esd-x" in offered and "xlayer" not in offered  # this UNet has no such blocks
    assert re.search(r"[\d,]+ weights", offered["esd-x"])


# --- the Compare tab


def test_strength_zero_is_the_base_model(model: DiffusionModel):
    shown = compared(model, erased(model), **{**COMPARE, "strength": 0.0})
    drawn = r'base64,([^"]+)" alt="a dog, seed 2, (?:base|erased at strength 0)"'
    sources = re.findall(drawn, shown.table)
    base, after = (Image.open(io.BytesIO(base64.b64decode(source))) for source in sources)
    assert base.tobytes() == after.tobytes()
    assert re.search("<code>[0-9a-f]{8}</code>", shown.status)


def test_a_change_of_strength_before_there_is_an_erasure_leaves_the_page(model: DiffusionModel):
    assert list(compare_tab.redraw(model, None, **COMPARE)) == [compare_tab.ComparisonMoment()]
    *_, end = compare_tab.redraw(model, erased(model, iterations=0), **COMPARE)
    assert "the same noise" in end.status


def test_an_empty_box_compares_what_erase_showed(model: DiffusionModel):
    shown = compared(model, erased(model), **{**COMPARE, "prompt": " "})
    assert shown.table.count("<img") == 3 * 2 * 3
    assert Path(shown.download).name == "comparison.png"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(prompt="a zeppelin"), "never seen: zeppelin"),
        (dict(seeds="1, -2"), "seed: '-2' cannot be; use a whole number from 0 to 4294967295"),
        (dict(seeds=""), "seed: give at least one value, such as 1"),
        (dict(prompt="a cat\n" * 9), "make 18 pictures a column; ask for 16 or fewer"),
    ],
)
def test_a_bad_comparison_is_refused(model: DiffusionModel, wrong: dict[str, Any], sentence: str):
    with pytest.raises(gr.Error) as refused:
        compared(model, erased(model, iterations=0), **{**COMPARE, **wrong})
    assert sentence in refused.value.message


def test_text_from_a_visitor_is_escaped(tiny: DiffusionModel):
    shown = list(erase_tab.erase(tiny, **fields(concept="<b>x", iterations=1)))
    assert not any("<b>x" in str(part) for s in shown for part in (s.status, s.strip))


# --- settings and looks


def test_settings_come_from_the_command_line_then_the_environment():
    environment = dict(ESD_MODEL="some/model", ESD_PORT="7000", ESD_DEVICE="cpu")
    options = app.settings(["--port", "7001"], environment)
    assert (options.model, options.port, options.device) == ("some/model", 7001, "cpu")
    assert app.settings([], {}).model == "emoji" and not app.settings([], {}).share


def test_a_space_serves_only_listed_models(capsys):
    space = {"SPACE_ID": "someone/esd"}
    assert app.settings([], space).model == "emoji"
    with pytest.raises(SystemExit):
        app.settings(["--model", "some/model"], space)
    assert "model is 'some/model', but a Space serves one of: emoji" in capsys.readouterr().err
    assert app.settings(["--model", "some/model"], {}).model == "some/model"


def test_a_model_without_vocabulary_has_a_page_too(tiny: DiffusionModel):
    kinds = {type(b).__name__: b for b in app.build_demo(tiny).blocks.values()}
    assert kinds["Textbox"] and "16 px" in app.header(tiny)


def test_a_page_opens_with_the_steps_that_its_model_can_bear(tiny: DiffusionModel):
    blocks = app.build_demo(tiny).blocks.values()
    values = {b.label: b.value for b in blocks if isinstance(b, gr.Number | gr.Dropdown)}
    assert values["Preset"] == "live-sd"
    told = ("Iterations", "Learning rate", "Batch size", "Sampling steps", "Preserve")
    assert [values[label] for label in told] == [50, 0.01, 4, 12, 0]


def test_it_listens_to_this_machine_only_unless_it_is_a_space():
    assert app.server_name({}) == "127.0.0.1"
    assert app.server_name({"SPACE_ID": "someone/esd"}) == "0.0.0.0"


def luminance(colour: str) -> float:
    """Relative luminance of a role's colour (WCAG 2)."""
    palette = {"*neutral": theme.STONE, "*primary": theme.TEAL}
    if colour.startswith("*"):
        family, _, shade = colour.partition("_")
        colour = getattr(palette[family], f"c{shade}")
    colour = "#ffffff" if colour == "white" else colour
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "background"),
    [
        ("body_text_color", "body_background_fill"),
        ("body_text_color_subdued", "body_background_fill"),
        ("block_info_text_color", "background_fill_primary"),
        ("input_placeholder_color", "input_background_fill"),
        ("button_primary_text_color", "button_primary_background_fill"),
        ("button_primary_text_color_hover", "button_primary_background_fill_hover"),
        ("button_secondary_text_color", "button_secondary_background_fill"),
        ("error_text_color", "error_background_fill"),
    ],
)
def test_text_stands_out_from_its_background(text: str, background: str, mode: int):
    dim, bright = sorted(luminance(theme.ROLES[name][mode]) for name in (text, background))
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


# --- the served app


@pytest.fixture
def url(model: DiffusionModel) -> Iterator[str]:
    demo = app.build_demo(model)
    _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield address
    demo.close()


def test_the_api_streams_refuses_and_keeps_visitors_apart(url: str):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    with pytest.raises(AppError, match="never seen: zeppelin"):
        ann.predict(**fields(concept="a zeppelin"), api_name="/erase")
    with pytest.raises(AppError, match="eta is 99"):
        ann.predict(**fields(eta=99), api_name="/erase")
    job = ann.submit(**fields(seed=3), api_name="/erase")
    job.result(timeout=250)
    assert len(job.outputs()) > 5
    status, strip, *_, file, seed = job.outputs()[-1]
    assert "Done." in status and seed == 3 and strip.count("<img") == 12
    assert Path(file).name == "a-cat_esd-x_6-updates.safetensors"
    with pytest.raises(AppError, match="nothing is erased in this session"):
        bob.predict(**COMPARE, api_name="/compare")
    assert "“a cat”" in ann.predict(**COMPARE, api_name="/compare")[0]


def test_a_cancelled_run_keeps_its_erasure_and_frees_the_model(url: str):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    job = ann.submit(**fields(iterations=100_000), api_name="/erase")
    while not any(re.search("update [1-9].* of 100000", str(moment)) for moment in job.outputs()):
        time.sleep(0.05)
    job.cancel()
    assert "Done." in bob.predict(**fields(concept="dog"), api_name="/erase")[0]
    assert "“a cat” (esd-" in ann.predict(**COMPARE, api_name="/compare")[0]
    assert "“a dog” (esd-" in bob.predict(**COMPARE, api_name="/compare")[0]


def test_state_expires():
    for state in erasure_list.Erasures.beside(())[:2]:
        assert state.time_to_live == memory.LIFETIME and not state.value
