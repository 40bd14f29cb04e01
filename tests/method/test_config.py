"""What `EraseConfig` refuses, and the numbers of the presets."""

import json
from dataclasses import FrozenInstanceError

import pytest

from esd_core.config import MOST_CONCEPTS, OPTIONS, PRESETS, EraseConfig, Target, preset, usual_preset
from esd_core.exchange.pipelines import EMOJI
from esd_core.sampling import SCHEDULERS
from esd_core.selection import TRAIN_METHODS
from esd_core.support.strict import UNBOUNDED

BOUNDS = {name: option.bounds for name, option in OPTIONS.items() if option.bounds != UNBOUNDED}
WHOLE = [name for name in BOUNDS if OPTIONS[name].kind is int]


@pytest.mark.parametrize(("name", "bounds"), BOUNDS.items(), ids=BOUNDS)
def test_bounds_are_inclusive_and_quoted(name, bounds):
    low, high = bounds
    for value in bounds:
        assert getattr(EraseConfig("a cat", train_method="esd-lora", **{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{name} is {value}; .* from {low:g} to") as error:
            EraseConfig("a cat", **{name: value})
        assert f"{high:.10g}" in str(error.value)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "7", None])
def test_what_is_no_finite_number_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        EraseConfig("a cat", **{name: value})


def test_three_and_three_point_nought_are_the_same_run():
    whole, real = (EraseConfig("a cat", start_guidance=value) for value in (3, 3.0))
    assert json.dumps(whole.to_dict()) == json.dumps(real.to_dict())


@pytest.mark.parametrize("name", WHOLE)
def test_counts_are_whole_numbers(name):
    with pytest.raises(ValueError, match=f"{name} is 1.5"):
        EraseConfig("a cat", **{name: 1.5})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x_t_source", "frozen, edited, images"),
        ("points", "all, last"),
        ("timesteps", "exact, compvis"),
        ("from_objects", "none, styles"),
        ("scheduler", r"ddim, dpm\+\+, euler, pndm"),
        ("train_method", ", ".join(TRAIN_METHODS)),
    ],
)
def test_unknown_choices_are_refused_and_the_choices_listed(name, message):
    with pytest.raises(ValueError, match=f"'nonsense'.*{message}"):
        EraseConfig("a cat", **{name: "nonsense"})


@pytest.mark.parametrize(
    "options",
    [
        dict(timesteps="compvis"),
        dict(timesteps="compvis", points="last", scheduler="pndm"),
        dict(points="last", x_t_source="images"),
        dict(points="last", preserve=1.0),
        dict(points="last", from_objects="styles"),
        dict(points="last", redraw_every=1),  # it would keep no trajectory back
        dict(points="last", redraw_every=1, held_out=0, trajectories=1),  # nor learn from batches of 8
        dict(points="last", held_out=0, batch_size=1, trajectories=1),  # it would see one example for ever
    ],
)
def test_combinations_that_no_code_honours_are_refused(options):
    with pytest.raises(ValueError, match="need"):
        EraseConfig("a cat", **options)


def test_an_alias_is_stored_under_its_documented_name():
    assert EraseConfig("a cat", train_method="xattn").train_method == "esd-x"


def test_a_config_cannot_change():
    with pytest.raises(FrozenInstanceError):
        EraseConfig("a cat").eta = 2.0


# --- concepts ---------------------------------------------------------------------------------


def test_concepts_may_be_given_in_several_ways():
    one = (Target("a cat"),)
    assert EraseConfig("a cat").concepts == one
    assert EraseConfig(Target("a cat")).concepts == one
    assert EraseConfig(["a cat"]).concepts == one
    assert EraseConfig([{"concept": "a cat"}]).concepts == one
    several = ["a cat", Target("red", erase_from="a red dog", weight=2.0)]
    assert EraseConfig(several).concepts == (Target("a cat", None, 1.0), several[1])


@pytest.mark.parametrize("concepts", ["", "  ", [], None, ["a cat", " "]])
def test_no_concept_is_refused(concepts):
    with pytest.raises(ValueError, match="concept"):
        EraseConfig(concepts)


def test_a_run_erases_so_many_concepts_and_no_more():
    names = [f"thing {i}" for i in range(MOST_CONCEPTS + 1)]
    assert len(EraseConfig(names[:-1]).concepts) == MOST_CONCEPTS
    with pytest.raises(ValueError, match="17 concepts"):
        EraseConfig(names)


def test_a_concept_is_named_once():
    with pytest.raises(ValueError, match="'a cat' is named twice"):
        EraseConfig(["a cat", "a dog", Target("a cat", weight=2.0)])
    apart = [Target("red", erase_from="a red cat"), Target("red", erase_from="a red dog")]
    assert len(EraseConfig(apart).concepts) == 2  # the same word, not the same thing


@pytest.mark.parametrize("other", ["A Cat ", "a  cat", " a cat"])
def test_spaces_and_case_make_no_other_concept(other):
    with pytest.raises(ValueError, match="is named twice"):
        EraseConfig(["a cat", other])


def test_one_prompt_to_preserve_is_not_a_list_of_letters():
    assert EraseConfig("a cat", preserve_prompts="a dog").preserve_prompts == ("a dog",)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_are_positive(weight):
    with pytest.raises(ValueError, match="weight is"):
        EraseConfig(Target("a cat", weight=weight))


# --- dictionaries -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name):
    concepts = ["a cat", Target("red", erase_from="a red dog", weight=0.5)]
    config = preset(name, concepts, eta=2.5, seed=3)
    assert EraseConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_preservation_prompts_survive_json():
    config = EraseConfig("a cat", preserve=2.0, preserve_prompts=["a dog", ""])
    assert EraseConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_files_of_former_versions_are_read_where_the_run_is_still_the_same():
    former = {**EraseConfig("a cat").to_dict(), "learning_rate_schedule": "constant"}
    assert EraseConfig.from_dict(former) == EraseConfig("a cat")
    with pytest.raises(ValueError, match="learning_rate_schedule"):
        EraseConfig.from_dict({**former, "learning_rate_schedule": "cosine"})


def test_the_schedulers_are_those_of_sampling():
    assert OPTIONS["scheduler"].choices == tuple(SCHEDULERS)


@pytest.mark.parametrize("made", [lambda: EraseConfig(3), lambda: Target(3), EraseConfig])
def test_arguments_of_the_wrong_kind_are_refused_in_a_sentence(made):
    with pytest.raises(ValueError, match="^concepts? is "):
        made()


def test_every_option_says_what_it_means():
    assert all(option.help for name, option in OPTIONS.items() if name != "concepts")


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="negative_guidance"):
        EraseConfig.from_dict({"concepts": "a cat", "negative_guidance": 1.0})


# --- presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_papers_strength_and_sampling_guidance(name):
    config = preset(name, "a cat")
    method = "esd-lora" if name in ("live", "edit", "live-sd") else "esd-x"
    assert (config.eta, config.start_guidance, config.train_method) == (1.0, 3.0, method)


def test_live_preserves_dresses_styles_and_takes_larger_steps_in_cross_attention():
    more = dict(preserve=0.5, from_objects="styles", learning_rate=1.5e-3)
    assert preset("live", "a cat", train_method="esd-x") == EraseConfig("a cat", **more)
    assert preset("live", "a cat", train_method="xattn").learning_rate == 1.5e-3
    assert preset("live", "a cat", train_method="esd-u").learning_rate == 1e-3
    assert preset("live", "a cat", learning_rate=1e-4, train_method="esd-x").learning_rate == 1e-4


def test_live_is_placed_and_holds_no_prompts():
    config = preset("live", "a cat")
    assert (config.train_method, config.preserve, config.from_objects) == ("esd-lora", 0, "styles")
    assert config == preset("live", "a cat", train_method="esd-lora")


def test_an_edit_makes_no_update_and_has_no_teacher():
    config = preset("edit", "a cat")
    assert (config.iterations, config.held_out, config.edit) == (0, 0, 1)
    with pytest.raises(ValueError, match="esd-x"):
        preset("edit", "a cat", train_method="esd-x")


def test_models_that_list_what_they_draw_begin_with_live():
    assert usual_preset("emoji") == usual_preset(str(EMOJI)) == "live"


def test_other_models_are_placed_in_shorter_steps_that_go_as_far(tmp_path):
    for name in ("CompVis/stable-diffusion-v1-4", str(tmp_path), "too long \U0001f408" * 200, "\0"):
        assert usual_preset(name) == "live-sd"
    small, live = preset("live-sd", "a cat"), preset("live", "a cat")
    assert (small.train_method, small.edit, small.rank) == ("esd-lora", live.edit, live.rank)
    assert small.learning_rate < live.learning_rate / 4
    ways = [config.iterations * config.learning_rate for config in (small, live)]
    assert ways[0] == pytest.approx(ways[1], rel=0.2)  # Adam moves a number by the rate, at first


def test_with_another_method_they_take_the_steps_of_the_newer_script():
    ours, theirs = preset("live-sd", "a cat", train_method="esd-x"), preset("official-2025", "a cat")
    for name in ("iterations", "learning_rate", "batch_size", "preserve"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("points", "redraw_every", "trajectories", "scheduler"):
        assert getattr(ours, name) == getattr(preset("live", "a cat", train_method="esd-x"), name)
    assert ours.trajectories * ours.num_inference_steps == ours.iterations  # an example for each


def test_paper_is_the_2023_script():
    # train-esd.py: iterations 1000, lr 1e-5, ddim_steps 50, batch 1, x_t drawn by the edited model
    config = preset("paper", "a cat")
    assert (config.iterations, config.learning_rate, config.batch_size) == (1000, 1e-5, 1)
    assert (config.scheduler, config.num_inference_steps) == ("ddim", 50)
    assert (config.x_t_source, config.points, config.timesteps) == ("edited", "last", "compvis")
    assert (config.trajectories, config.redraw_every) == (1, 1)


def test_official_2025_is_the_newer_script():
    # esd_sd.py: iterations 200, lr 5e-5, 50 PNDM steps, batch 1, x_t drawn by the frozen model
    config = preset("official-2025", "a cat")
    assert (config.iterations, config.learning_rate, config.batch_size) == (200, 5e-5, 1)
    assert (config.scheduler, config.num_inference_steps) == ("pndm", 50)
    assert (config.x_t_source, config.points, config.timesteps) == ("frozen", "last", "exact")
    assert (config.trajectories, config.redraw_every) == (1, 1)


def test_official_2026_is_2025_at_the_models_own_size_which_both_have_here():
    assert preset("official-2026", "a cat") == preset("official-2025", "a cat")


def test_options_replace_those_of_a_preset():
    assert preset("paper", "a cat", iterations=5).iterations == 5


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="'fast'.*" + ", ".join(PRESETS)):
        preset("fast", "a cat")


@pytest.mark.parametrize(
    "wrong",
    [
        dict(concepts=5),
        dict(concepts={}),
        dict(iterations=True),
        dict(concepts=[5]),
        dict(concepts=[{"concept": 5}]),
        dict(concepts=[{"concept": "a cat", "weight": "heavy"}]),
        dict(concepts=[{"concept": "a cat", "erase_from": 5}]),
        dict(concepts=[{"concept": "a cat", "colour": "red"}]),
        dict(preserve_prompts=5),
        dict(preserve_prompts=[5]),
        dict(image_size="large"),
        dict(train_method={}),
        dict(eta=float("nan")),
        dict(gradient_checkpointing="yes"),
        dict(gradient_checkpointing=1),
    ],
)
def test_options_of_the_wrong_kind_are_refused_whatever_they_are(wrong):
    with pytest.raises(ValueError):
        EraseConfig.from_dict({"concepts": "a cat", **wrong})


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_context_is_none(blank):
    assert EraseConfig([Target("a cat", blank)]) == EraseConfig("a cat")
