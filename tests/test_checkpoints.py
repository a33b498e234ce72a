"""Weights come back exactly, in shards or not; what was damaged or is foreign does not."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from longtake.checkpoints import content_hash, load_state, load_tensors, save_state, save_tensors
from longtake.checkpoints.header import read_header
from longtake.checkpoints.index import Index, index_path, read_index
from longtake.checkpoints.weights import SHARD_BYTES
from longtake.errors import OutputError, WeightsError

KIB = 2**10


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "blocks.0.weight": torch.randn(8, 6, generator=generator).to(torch.bfloat16),
        "blocks.0.bias": torch.randn(6, generator=generator).half(),
        "blocks.1.weight": torch.randn(8, 6, generator=generator).t(),
        "scale": torch.tensor(2.5),
    }


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(two) and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_come_back_bit_by_bit(tmp_path):
    save_tensors(tmp_path / "a.safetensors", weights(), {"made": "here"})
    assert same(load_tensors(tmp_path / "a.safetensors", shapes(weights())), weights())
    assert names(tmp_path) == ["a.safetensors", "a.safetensors.index.json"]


def test_public_loaders_read_the_files(tmp_path):
    save_tensors(tmp_path / "a.safetensors", weights())
    found = load_file(tmp_path / "a.safetensors")
    assert same({name: found[name] for name in weights()}, weights())


def test_same_weights_give_the_same_bytes(tmp_path):
    metadata = {str(number): "x" for number in range(9)}
    save_tensors(tmp_path / "a.safetensors", weights(), metadata)
    backwards = dict(reversed(weights().items()))
    save_tensors(tmp_path / "b.safetensors", backwards, dict(reversed(metadata.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tied_weights_are_stored_twice(tmp_path):
    tied = torch.randn(4, 4)
    save_tensors(tmp_path / "a.safetensors", {"in": tied, "out": tied})
    found = load_tensors(tmp_path / "a.safetensors", {"in": (4, 4), "out": (4, 4)})
    assert torch.equal(found["in"], found["out"])


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=12), st.sampled_from([8, 16, 64]))
@settings(max_examples=20, deadline=None)
def test_shards_keep_to_the_limit_and_come_back(tmp_path_factory, sizes, limit_kib):
    folder = tmp_path_factory.mktemp("shards")
    tensors = {f"t{n}": torch.full((size,), float(n)) for n, size in enumerate(sizes)}
    path = folder / "w.safetensors"
    save_tensors(path, tensors, shard_bytes=limit_kib * KIB)
    index = read_index(index_path(path))
    assert set(names(folder)) == {*index.files, "w.safetensors.index.json"}
    for file in index.files:
        alone = sum(shard == file for shard in index.weight_map.values()) == 1
        assert alone or (folder / file).stat().st_size <= limit_kib * KIB
        checksum = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        assert index.sha256[file] == checksum
    assert same(load_tensors(path, shapes(tensors)), tensors)


def test_shards_are_named_as_public_checkpoints_name_them(tmp_path):
    tensors = {name: torch.ones(600) for name in "abc"}
    save_tensors(tmp_path / "w.safetensors", tensors, shard_bytes=4 * KIB)
    assert names(tmp_path) == [
        *(f"w-0000{n}-of-00003.safetensors" for n in (1, 2, 3)),
        "w.safetensors.index.json",
    ]
    assert SHARD_BYTES == 16 * 2**20


def test_saving_again_removes_older_shards_and_nothing_else(tmp_path):
    tensors = {name: torch.ones(600) for name in "abc"}
    path = tmp_path / "w.safetensors"
    for other in ("ww.safetensors", "w-x.safetensors", "w-00001-of-00003.json"):
        (tmp_path / other).touch()
    for limit in (4 * KIB, 16 * KIB, 4 * KIB):
        save_tensors(path, tensors, shard_bytes=limit)
        assert same(load_tensors(path, shapes(tensors)), tensors)
    assert len(names(tmp_path)) == 4 + 3


def test_failed_save_keeps_the_weights_before(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.ones(3)})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        save_tensors(path, {"a": torch.zeros(3)})
    monkeypatch.undo()
    assert load_tensors(path, {"a": (3,)})["a"].tolist() == [1, 1, 1]
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (torch.tensor([1.0, float("nan")]), "values from nan"),
        (torch.tensor([float("-inf")]), "values from -inf"),
        (torch.tensor([2e6]), "at most 1e"),
        (torch.ones(2, dtype=torch.int64), "weights are fp32, fp16 or bf16"),
        (torch.ones(0, 3), "empty shape"),
    ],
)
def test_weights_that_could_not_be_loaded_are_not_saved(tmp_path, tensor, complaint):
    with pytest.raises(WeightsError, match=complaint):
        save_tensors(tmp_path / "a.safetensors", {"t": tensor})
    assert names(tmp_path) == []


def test_weights_are_saved_under_their_ending_only(tmp_path):
    with pytest.raises(WeightsError, match=r"try .*a\.safetensors"):
        save_tensors(tmp_path / "a.pt", {"t": torch.ones(1)})


def test_missing_weights_and_lost_indexes_are_told(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="no weights at"):
        load_tensors(path, {})
    save_tensors(path, {name: torch.ones(600) for name in "abc"}, shard_bytes=4 * KIB)
    index_path(path).unlink()
    with pytest.raises(WeightsError, match="have lost their"):
        load_tensors(path, {})


def test_weights_without_an_index_load_by_shape_and_value(tmp_path):
    save_tensors(tmp_path / "a.safetensors", weights())
    index_path(tmp_path / "a.safetensors").unlink()
    assert same(load_tensors(tmp_path / "a.safetensors", shapes(weights())), weights())


def test_index_without_checksums_is_read_as_public_checkpoints_write_it(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, weights())
    index_path(path).write_text(json.dumps({"weight_map": dict.fromkeys(weights(), path.name)}))
    assert read_index(index_path(path)) == Index(dict.fromkeys(weights(), path.name), {})
    assert same(load_tensors(path, shapes(weights())), weights())


def test_model_hash_follows_weights_and_shapes_alone(tmp_path):
    save_tensors(tmp_path / "a.safetensors", weights())
    (tmp_path / "model.json").write_text("{}")
    before = content_hash(tmp_path)
    assert len(before) == 64
    (tmp_path / "README.md").write_text("x")
    index_path(tmp_path / "a.safetensors").unlink()
    assert content_hash(tmp_path) == before
    (tmp_path / "model.json").write_text("{ }")
    assert content_hash(tmp_path) != before
    assert content_hash(tmp_path / "a.safetensors") == content_hash(tmp_path / "a.safetensors")


def test_folder_without_weights_has_no_hash(tmp_path):
    with pytest.raises(WeightsError, match=r"no \.safetensors file"):
        content_hash(tmp_path)
    with pytest.raises(WeightsError, match="cannot read"):
        content_hash(tmp_path / "a.safetensors")


def test_state_of_any_types_comes_back_with_its_settings(tmp_path):
    tensors = {**weights(), "step": torch.tensor(7), "rng": torch.arange(5, dtype=torch.uint8)}
    save_state(tmp_path / "s", tensors, {"seed": "1", "config": '{"a": "ü"}'})
    found, texts = load_state(tmp_path / "s")
    assert same({name: found[name] for name in tensors}, tensors)
    assert texts == {"seed": "1", "config": '{"a": "ü"}'}
    assert names(tmp_path) == ["s"]


def test_damaged_state_is_refused_wherever_a_bit_flips(tmp_path):
    save_state(tmp_path / "s", weights(), {"seed": "1"})
    raw = (tmp_path / "s").read_bytes()
    tensors = {name: tensor.clone() for name, tensor in weights().items()}
    start = 8 + int.from_bytes(raw[:8], "little")
    for byte in range(len(raw)):
        damaged = bytearray(raw)
        damaged[byte] ^= 1 << byte % 8
        (tmp_path / "s").write_bytes(damaged)
        # A flip in the header may change nothing that counts; then the state is the same.
        try:
            found, texts = load_state(tmp_path / "s")
        except WeightsError:
            continue
        assert byte < start
        assert texts == {"seed": "1"}
        assert same({name: found[name] for name in tensors}, tensors)


def test_truncated_state_and_plain_weights_are_no_state(tmp_path):
    save_state(tmp_path / "s", weights(), {})
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-1])
    with pytest.raises(WeightsError, match="truncated"):
        load_state(tmp_path / "s")
    save_tensors(tmp_path / "a.safetensors", weights())
    with pytest.raises(WeightsError, match="no state that Longtake wrote"):
        load_state(tmp_path / "a.safetensors")


def test_header_tells_types_shapes_and_places(tmp_path):
    save_tensors(tmp_path / "a.safetensors", weights())
    header = read_header(tmp_path / "a.safetensors")
    assert shapes(weights()) == {name: header.tensors[name].shape for name in weights()}
    assert header.tensors["blocks.0.weight"].dtype == "BF16"
    assert header.metadata == {"longtake": "{}"}
