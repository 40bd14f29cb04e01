"""The learned edit: copies that share weights, strength, combination, and the file."""

import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from esd_core.denoise import predict
from esd_core.erasure import FORMAT, Erasure, combine, shared_copy
from esd_core.selection import TRAIN_METHODS, select
from esd_core.support import files

T = torch.tensor(500)


def made_up(model, method="esd-x", seed=0) -> Erasure:
    """An erasure whose tensors are the frozen ones plus noise."""
    generator = torch.Generator().manual_seed(seed)
    frozen = dict(model.unet.named_parameters())
    tensors = {
        n: frozen[n] + 0.1 * torch.randn(frozen[n].shape, generator=generator)
        for n in select(model.unet, method)
    }
    return Erasure(tensors, model.fingerprint, {"model": model.name, "concepts": ["a cat"]})


def prediction(model, unet):
    x_t = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    return predict(unet, x_t, T, model.encode(["a cat"]))


def values(unet) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in unet.named_parameters()}


@pytest.fixture
def erasure(tiny):
    return made_up(tiny)


# --- copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", TRAIN_METHODS[:8])  # the last two name blocks tiny lacks
def test_a_copy_owns_the_named_tensors_and_shares_all_others(tiny, method):
    names = set(select(tiny.unet, method))
    copied = dict(shared_copy(tiny.unet, names).named_parameters())
    for name, parameter in tiny.unet.named_parameters():
        assert (copied[name] is not parameter) == (name in names)
        assert torch.equal(copied[name], parameter)


def test_a_copy_shares_buffers():
    norm = nn.BatchNorm1d(2)
    copied = shared_copy(norm, ["weight"])
    assert copied.running_mean is norm.running_mean
    assert copied.bias is norm.bias and copied.weight is not norm.weight


def test_a_copy_predicts_the_same_bits(tiny):
    copied = shared_copy(tiny.unet, select(tiny.unet, "esd-x"))
    assert torch.equal(prediction(tiny, copied), prediction(tiny, tiny.unet))


def test_changing_a_copy_leaves_the_original(tiny):
    before = values(tiny.unet)
    copied = shared_copy(tiny.unet, select(tiny.unet, "esd-x"))
    with torch.no_grad():
        for name in select(tiny.unet, "esd-x"):
            copied.get_parameter(name).zero_()
    assert all(torch.equal(p, before[n]) for n, p in tiny.unet.named_parameters())


# --- strength and combination -----------------------------------------------------------------


def test_strength_0_is_the_frozen_model_bit_for_bit(tiny, erasure):
    edited = erasure.apply(tiny, 0.0)
    assert torch.equal(prediction(tiny, edited), prediction(tiny, tiny.unet))


def test_strength_1_holds_exactly_the_trained_numbers(tiny, erasure):
    edited = values(erasure.apply(tiny))
    assert all(torch.equal(edited[n], t) for n, t in erasure.tensors.items())
    assert not torch.allclose(prediction(tiny, erasure.apply(tiny)), prediction(tiny, tiny.unet))


@pytest.mark.parametrize("strength", [-1.0, 0.3, 2.0])
def test_other_strengths_lie_on_the_line_through_both(tiny, erasure, strength):
    frozen, edited = values(tiny.unet), values(erasure.apply(tiny, strength))
    for name, trained in erasure.tensors.items():
        expected = frozen[name] + strength * (trained - frozen[name])
        assert_close(edited[name], expected, atol=1e-6, rtol=1e-5)


def test_strength_a_half_is_halfway(tiny, erasure):
    frozen, halfway = values(tiny.unet), values(erasure.apply(tiny, 0.5))
    for name, trained in erasure.tensors.items():
        assert_close(halfway[name], (frozen[name] + trained) / 2, atol=1e-6, rtol=1e-5)


def test_combining_adds_what_each_changed(tiny):
    # esd-x-strict is part of esd-x: keys and values get both changes, queries only the first.
    first, second = made_up(tiny, "esd-x"), made_up(tiny, "esd-x-strict", seed=1)
    frozen, edited = values(tiny.unet), values(combine(tiny, [first, second], [1.0, 0.5]))
    for name, weight in frozen.items():
        expected = weight.clone()
        if name in first.tensors:
            expected += first.tensors[name] - weight
        if name in second.tensors:
            expected += 0.5 * (second.tensors[name] - weight)
        assert_close(edited[name], expected, atol=1e-6, rtol=1e-5)


def test_combining_nothing_is_the_frozen_model(tiny):
    edited = combine(tiny, [], [])
    assert torch.equal(prediction(tiny, edited), prediction(tiny, tiny.unet))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_applying_leaves_model_and_erasure_alone(tiny, erasure, strength):
    before, trained = values(tiny.unet), {n: t.clone() for n, t in erasure.tensors.items()}
    edited = erasure.apply(tiny, strength)
    with torch.no_grad():
        for name in erasure.tensors:
            edited.get_parameter(name).zero_()
    assert all(torch.equal(p, before[n]) for n, p in tiny.unet.named_parameters())
    assert all(torch.equal(t, trained[n]) for n, t in erasure.tensors.items())


def test_an_edited_unet_serves_in_a_plain_pipeline(tiny, erasure):
    pipeline = tiny.to_pipeline(erasure.apply(tiny))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a cat", num_inference_steps=2, generator=generator, output_type="pt").images
    assert image.shape == (1, 3, 16, 16)


def test_an_erasure_of_a_half_precision_model_keeps_its_dtype(tiny_half):
    trained = made_up(tiny_half)
    assert {t.dtype for t in trained.tensors.values()} == {torch.float32}
    assert {p.dtype for p in trained.apply(tiny_half).parameters()} == {torch.bfloat16}


def test_a_sum_kept_as_one_erasure_is_the_same_model(tiny, erasure):
    other = made_up(tiny, "esd-u", seed=1)
    kept = Erasure.combine(tiny, [erasure, other], [1.0, -0.5])
    direct = values(combine(tiny, [erasure, other], [1.0, -0.5]))
    assert all(torch.equal(p, direct[n]) for n, p in kept.apply(tiny).named_parameters())
    assert kept.base == tiny.fingerprint
    assert [(p["strength"], p["hash"]) for p in kept.provenance["parts"]] == [
        (1.0, erasure.hash),
        (-0.5, other.hash),
    ]


def test_a_sum_of_a_sum_lists_its_parts_at_the_products_of_their_strengths(tiny, erasure):
    other = made_up(tiny, "esd-u", seed=1)
    both = Erasure.combine(tiny, [erasure, other], [1.0, -0.5])
    kept = Erasure.combine(tiny, [both, other], [2.0, 3.0])
    assert [(p["strength"], p["hash"]) for p in kept.parts] == [
        (2.0, erasure.hash),
        (-1.0, other.hash),
        (3.0, other.hash),
    ]
    direct = values(combine(tiny, [erasure, other], [2.0, 2.0]))
    assert_close(values(kept.apply(tiny)), direct, atol=1e-5, rtol=1e-5)


def test_equality_asks_for_the_same_object_and_hashes_compare_the_tensors(erasure):
    again = replace(erasure, tensors={n: t.clone() for n, t in erasure.tensors.items()})
    assert erasure == erasure and erasure != again and erasure.hash == again.hash
    assert {erasure: 1, again: 2}[erasure] == 1


def test_the_hash_tells_tensors_apart_and_nothing_else(tiny, erasure):
    assert replace(erasure, provenance={}).hash == erasure.hash
    assert made_up(tiny, seed=1).hash != erasure.hash


# --- refusals ---------------------------------------------------------------------------------


def test_one_strength_per_erasure(tiny, erasure):
    with pytest.raises(ValueError, match="1 erasures.* 2 strengths"):
        combine(tiny, [erasure], [1.0, 1.0])


@pytest.mark.parametrize("strength", [11.0, float("nan")])
def test_a_strength_out_of_range_is_refused(tiny, erasure, strength):
    with pytest.raises(ValueError, match="-10 to 10"):
        erasure.apply(tiny, strength)


def test_another_base_is_refused(tiny, erasure):
    other = tiny.with_unet(shared_copy(tiny.unet, ["conv_in.weight"]))
    with torch.no_grad():
        other.unet.conv_in.weight.mul_(2)
    with pytest.raises(ValueError, match=f"made for {tiny.name} .*{tiny.fingerprint}"):
        erasure.apply(other)


def test_unknown_tensors_are_refused(tiny, erasure):
    wrong = replace(erasure, tensors={"no.such.weight": torch.zeros(1), **erasure.tensors})
    with pytest.raises(ValueError, match=r"no\.such\.weight"):
        wrong.apply(tiny)


def test_other_shapes_are_refused(tiny, erasure):
    name = next(iter(erasure.tensors))
    wrong = replace(erasure, tensors={**erasure.tensors, name: torch.zeros(3, 5)})
    with pytest.raises(ValueError, match=r"shape \(3, 5\)"):
        wrong.apply(tiny)


# --- the file ---------------------------------------------------------------------------------


def test_save_and_load_are_inverse(tiny, erasure, tmp_path):
    path = erasure.save(tmp_path / "new folder" / "cat.safetensors")
    loaded = Erasure.load(path)
    assert (loaded.base, loaded.provenance) == (erasure.base, erasure.provenance)
    assert list(loaded.tensors) == sorted(erasure.tensors)  # safetensors keeps them by name
    assert all(torch.equal(loaded.tensors[n], t) for n, t in erasure.tensors.items())
    edited, again = erasure.apply(tiny), loaded.apply(tiny)
    assert torch.equal(prediction(tiny, edited), prediction(tiny, again))


def test_the_file_loads_without_us(tiny, erasure, tmp_path):
    path = erasure.save(tmp_path / "cat.safetensors")
    unet = shared_copy(tiny.unet, list(erasure.tensors))
    result = unet.load_state_dict(load_file(path), strict=False)
    assert not result.unexpected_keys
    assert torch.equal(prediction(tiny, unet), prediction(tiny, erasure.apply(tiny)))


def test_saving_leaves_no_other_file(erasure, tmp_path):
    erasure.save(tmp_path / "cat.safetensors")
    erasure.save(tmp_path / "cat.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["cat.safetensors"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(erasure, tmp_path, monkeypatch):
    path = erasure.save(tmp_path / "cat.safetensors")
    before = path.read_bytes()

    def disk_full(tensors, filename, metadata):
        filename.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        erasure.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["cat.pt", "cat", "cat.safetensors.bak"])
def test_another_suffix_is_refused(erasure, tmp_path, name):
    with pytest.raises(ValueError, match=r"\.safetensors"):
        erasure.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cat\.safetensors"):
        Erasure.load(tmp_path / "cat.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(erasure, tmp_path, keep):
    path = erasure.save(tmp_path / "cat.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="readable"):
        Erasure.load(path)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('the pickle was run')",))

    path = tmp_path / "cat.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="readable"):
        Erasure.load(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.tensor([1.0, float("nan")])}, "'w' .*finite"),
        ({"w": torch.tensor([float("inf")])}, "'w' .*finite"),
        ({"w": torch.tensor([1e300], dtype=torch.float64)}, "'w' .*finite"),
        ({"w": torch.tensor([1, 2])}, "'w' .*I64"),
        ({}, "no tensors"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(tmp_path, tensors, message):
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path, {"format": FORMAT})
    with pytest.raises(ValueError, match=message):
        Erasure.load(path)


def test_somebody_elses_safetensors_file_is_refused(erasure, tmp_path):
    path = tmp_path / "esd-cat.safetensors"
    save_file(erasure.tensors, path)
    with pytest.raises(ValueError, match="ESD Lab"):
        Erasure.load(path)


@pytest.mark.parametrize("provenance", ["{", "3", "null", '"cat"'])
def test_a_damaged_provenance_is_refused(erasure, tmp_path, provenance):
    path = tmp_path / "cat.safetensors"
    save_file(erasure.tensors, path, {"format": FORMAT, "provenance": provenance})
    with pytest.raises(ValueError, match="provenance"):
        Erasure.load(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_smaller_floats_are_read_as_float32(tmp_path, dtype):
    path = tmp_path / "cat.safetensors"
    save_file({"w": torch.ones(2).to(dtype)}, path, {"format": FORMAT})
    assert torch.equal(Erasure.load(path).tensors["w"], torch.ones(2))
