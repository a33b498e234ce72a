"""Weights that are damaged, foreign or hostile are refused by name, and nothing in them runs.

Rows 47 to 51 and 53 of the fault matrix.
"""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.checkpoints import load_tensors, read_json, save_tensors
from longtake.checkpoints.header import read_header
from longtake.checkpoints.index import index_path, read_index
from longtake.config import TextConfig, from_dict
from longtake.errors import LongtakeError, WeightsError

pytestmark = pytest.mark.faults

SHAPES = {"blocks.0.weight": (16, 24), "blocks.0.bias": (24,), "head.weight": (3, 16), "scale": ()}
FLIPS = 200
SECOND = 1.0
HUNDRED_MB = 100 * 2**20


def good(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(5)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    save_tensors(folder / "model.safetensors", tensors)
    return folder / "model.safetensors"


def packed(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: tuple = (2,), dtype: str = "F32", offsets: tuple = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def refused(path: Path, *fragments: str, expected=SHAPES) -> str:
    with pytest.raises(WeightsError) as caught:
        load_tensors(path, expected)
    message = str(caught.value)
    assert path.stem.split("-")[0] in message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message
    return message


@pytest.mark.parametrize("with_index", [True, False])
def test_row_47_weights_cut_at_every_percent_are_refused(tmp_path, with_index):
    path = good(tmp_path)
    raw = path.read_bytes()
    if not with_index:
        index_path(path).unlink()
    for percent in range(100):
        path.write_bytes(raw[: len(raw) * percent // 100])
        refused(path, str(path))
    path.write_bytes(raw + b"\0")
    refused(path, "1 bytes after its last tensor")


def test_row_48_one_flipped_bit_is_refused_by_the_checksum(tmp_path):
    path = good(tmp_path)
    raw = path.read_bytes()
    rng = random.Random(48)
    for _ in range(FLIPS):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        refused(path)
    path.write_bytes(raw)
    assert set(load_tensors(path, SHAPES)) == set(SHAPES)


def test_row_48_without_an_index_a_flip_never_gives_wrong_shapes_or_absurd_values(tmp_path):
    path = good(tmp_path)
    index_path(path).unlink()
    raw = path.read_bytes()
    rng = random.Random(480)
    for _ in range(FLIPS):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = load_tensors(path, SHAPES)
        except WeightsError:
            continue
        assert {name: tuple(tensor.shape) for name, tensor in found.items()} == SHAPES
        assert all(tensor.abs().max() <= 1e6 for tensor in found.values())


def test_row_48_a_flip_in_the_index_is_refused_or_changes_nothing(tmp_path):
    path = good(tmp_path)
    index = read_index(index_path(path))
    raw = index_path(path).read_bytes()
    rng = random.Random(4800)
    for _ in range(FLIPS):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        index_path(path).write_bytes(damaged)
        try:
            load_tensors(path, SHAPES)
        except WeightsError:
            continue
        assert read_index(index_path(path)).weight_map == index.weight_map


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e9, -1e30])
def test_row_49_one_absurd_value_is_refused_with_the_tensor_named(tmp_path, value):
    path = tmp_path / "model.safetensors"
    data = np.array([0.5, value], np.float32).tobytes()
    path.write_bytes(packed({"w": entry()}, data))
    refused(path, "'w'", "the file is damaged", expected={"w": (2,)})


@pytest.mark.parametrize(
    ("dtype", "size"), [("F64", 8), ("I64", 8), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("I32", 4)]
)
def test_row_49_wrong_types_are_refused_with_the_tensor_named(tmp_path, dtype, size):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"w": entry((2,), dtype, (0, 2 * size))}, bytes(2 * size)))
    refused(path, "'w'", f"type {dtype}", "F32, F16, BF16", expected={"w": (2,)})


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda t: t.pop("head.weight"), ["'head.weight' is missing"]),
        (lambda t: t.clear() or t.update(x=torch.ones(1)), ["and 3 more are missing"]),
        (lambda t: t.update({"head.bias": torch.ones(3)}), ["'head.bias' is not part", "nearest"]),
        (
            lambda t: t.update({"heads.weight": t.pop("head.weight")}),
            ["'head.weight' is missing", "'heads.weight' instead: was it renamed?"],
        ),
        (lambda t: t.update(scale=torch.ones(1)), ["'scale' has shape (1,), the model wants ()"]),
        (
            lambda t: t.update({"blocks.0.weight": torch.ones(24, 16)}),
            ["'blocks.0.weight' has shape (24, 16), the model wants (16, 24)"],
        ),
    ],
)
def test_row_49_missing_extra_renamed_and_misshapen_tensors_are_named(tmp_path, change, fragments):
    tensors = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    change(tensors)
    save_tensors(tmp_path / "model.safetensors", tensors)
    refused(tmp_path / "model.safetensors", *fragments)


BAD_ENTRIES = {
    "empty shape": {"w": entry((0, 4), offsets=(0, 0))},
    "no possible shape": {"w": entry((-1, 2))},
    "no possible shape ": {"w": entry((True,))},
    "no possible shape  ": {"w": entry((1,) * 9, offsets=(0, 4))},
    "no possible shape   ": {"w": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
    "no possible place": {"w": entry(offsets=(0,))},
    "no possible place ": {"w": entry(offsets=(0, 2**64))},
    "needs 8 bytes": {"w": entry(offsets=(0, 4))},
    "needs 8 bytes but has -8": {"w": entry(offsets=(8, 0))},
    "needs 4,294,967,296,000": {"w": entry((2**30, 1000))},
    "unknown type": {"w": entry(dtype="F7")},
    "unknown type ": {"w": entry(dtype=["F32"])},
    "not described by": {"w": {"dtype": "F32"}},
    "not described by ": {"w": 3},
    "starts at byte 4": {"w": entry(offsets=(4, 12))},
    "starts at byte 0": {"w": entry(), "x": entry()},
    "is truncated": {"w": entry(), "x": entry(offsets=(8, 16))},
    "metadata are not texts": {"__metadata__": {"a": 1}, "w": entry()},
    "not a safetensors file": b"[1]",
    "damaged header": b'{"w":{"dtype":"F32","dtype":"F32"}}',
    "damaged header ": b'{"w":\xff}',
    "damaged header  ": b'{"w":' + b"[" * 30_000,
    "damaged header   ": b'{"w":' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("complaint", BAD_ENTRIES)
def test_row_49_headers_that_do_not_add_up_are_refused(tmp_path, complaint):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(BAD_ENTRIES[complaint], bytes(8)))
    refused(path, complaint.strip(), expected={"w": (2,)})


def many(count: int) -> dict:
    return {
        f"{n:x}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n in range(count)
    }


HUGE = {
    "20 MB of header": lambda: packed(b"{" + b" " * 20_000_000 + b"}"),
    "300k tensors": lambda: packed(many(300_000), bytes(1_200_000)),
    "tensors just under the header limit": lambda: packed(many(50_000), bytes(200_000)),
    "a million objects": lambda: packed(b'{"a":[' + b"{}," * 1_300_000 + b"{}]}"),
    "half a million short texts": lambda: packed(
        b'{"a":[' + b",".join(b'"%d"' % n for n in range(450_000)) + b"]}"
    ),
    "a number of four million digits": lambda: packed(b'{"a":' + b"1" * 4_000_000 + b"}"),
    "a header longer than any file": lambda: struct.pack("<Q", 2**63) + b"{" + bytes(99),
}


@pytest.mark.parametrize("kind", HUGE)
def test_row_50_huge_headers_are_refused_in_a_second_and_100_mb(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HUGE[kind]())
    started = time.perf_counter()
    refused(path)
    assert time.perf_counter() - started < SECOND
    tracemalloc.start()
    refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < HUNDRED_MB


class Canary:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def zipped(content: bytes, *, deflated: bool = False) -> bytes:
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def torch_saved(canary: Canary, *, zip_format: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": canary}, buffer, _use_new_zipfile_serialization=zip_format)
    return buffer.getvalue()


def numpy_saved(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([canary], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def hidden_behind_weights(canary: Canary) -> bytes:
    return packed({"w": entry()}, bytes(8)) + zipped(pickle.dumps(canary))


def hidden_as_a_tensor(canary: Canary) -> bytes:
    raw = zipped(pickle.dumps(canary))
    return packed({"w": entry((len(raw),), "U8", (0, len(raw)))}, raw)


HOSTILE: dict[str, tuple[Callable[[Canary], bytes], str]] = {
    **{
        f"pickle {n}": (lambda c, n=n: pickle.dumps(c, protocol=n), "a pickle") for n in range(2, 6)
    },
    **{f"pickle {n}": (lambda c, n=n: pickle.dumps(c, protocol=n), "safetensors") for n in (0, 1)},
    "torch zip": (lambda c: torch_saved(c, zip_format=True), "a zip archive"),
    "torch legacy": (lambda c: torch_saved(c, zip_format=False), "a pickle"),
    "torch tar": (lambda c: tarred(pickle.dumps(c)), "a tar archive"),
    "numpy objects": (numpy_saved, "a numpy array"),
    "npz bomb": (lambda _: zipped(bytes(30_000_000), deflated=True), "a zip archive"),
    "gzip": (lambda c: b"\x1f\x8b\x08" + pickle.dumps(c), "a gzip archive"),
    "hdf5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "zip behind weights": (hidden_behind_weights, "bytes after its last tensor"),
    "zip as a tensor": (hidden_as_a_tensor, "'w' has type U8"),
    "yaml": (lambda _: b"!!python/object/apply:os.system [touch x]\n", "not a safetensors file"),
    "json naming a class": (lambda _: b'{"w": {"__class__": "os.system"}}', "safetensors"),
    "nothing": (lambda _: b"", "truncated"),
}


@pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.bin", "m.SAFETENSORS", "m.safetensors"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_row_51_foreign_files_are_refused_by_content_and_run_nothing(tmp_path, name, kind):
    make, complaint = HOSTILE[kind]
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(make(Canary(canary)))
    refused(tmp_path / name, complaint, expected={"w": (2,)})
    assert not canary.exists()


def test_row_51_the_canary_sings_when_a_pickle_is_opened(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_row_51_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "pipe.safetensors", "not a regular file")
    refused(tmp_path / "folder.safetensors", "a folder")


@pytest.mark.parametrize(
    "content",
    [
        {"weight_map": {"w": "../other.safetensors"}},
        {"weight_map": {"w": "/etc/passwd"}},
        {"weight_map": {"w": "model.pt"}},
        {"weight_map": {"w": ".hidden.safetensors"}},
        {"weight_map": {"w": 3}},
        {"weight_map": ["w"]},
        {"weight_map": {"w": "model.safetensors"}, "sha256": {"model.safetensors": "x"}},
        {"weight_map": {"w": "model.safetensors"}, "sha256": {"x.safetensors": "0" * 64}},
        [],
        {},
    ],
)
def test_row_51_an_index_cannot_lead_elsewhere(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"w": entry()}, bytes(8)))
    index_path(path).write_text(json.dumps(content))
    refused(path, "index", "damaged", expected={"w": (2,)})


def test_row_51_an_oversized_or_unreadable_index_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    index_path(path).write_bytes(b" " * (8 * 2**20 + 1))
    refused(path, "larger than")
    index_path(path).unlink()
    index_path(path).mkdir()
    refused(path, "cannot read")


def test_row_51_a_shard_holds_what_the_index_says(tmp_path):
    path = good(tmp_path)
    index = json.loads(index_path(path).read_text())
    del index["weight_map"]["scale"]
    index_path(path).write_text(json.dumps(index))
    refused(path, "'scale' is in the file or in its index, not in both")


def test_row_51_a_lost_shard_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {name: torch.ones(600) for name in "abc"}, shard_bytes=4096)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(path, "model-00002-of-00003.safetensors", "No such file")


@pytest.mark.parametrize("text", ["", "a: !!python/name:os.system", "[1]", "[" * 99_999, "\xff"])
def test_row_51_a_config_that_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text, "latin-1")
    with pytest.raises(WeightsError, match=r"model\.json is damaged"):
        read_json(tmp_path / "model.json")


@pytest.mark.parametrize("setting", ["__class__", "!!python/object", "_target_"])
def test_row_51_a_config_naming_a_class_is_refused(setting):
    with pytest.raises(LongtakeError, match="unknown setting"):
        from_dict(TextConfig, {setting: "os.system"})


@pytest.mark.parametrize("scale", [0.0, float("nan"), 1.0])
def test_row_53_quantised_weights_are_refused_whatever_their_scale(tmp_path, scale):
    path = tmp_path / "model.safetensors"
    header = {"w": entry((8,), "F8_E4M3", (4, 12)), "w_scale": entry((1,), offsets=(0, 4))}
    path.write_bytes(packed(header, struct.pack("<f", scale) + bytes(8)))
    refused(path, "'w' has type F8_E4M3", expected={"w": (8,)})


@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda raw: packed(b"{" + raw)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_header_or_one_error(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(raw)
    try:
        read_header(path)
    except WeightsError as error:
        assert "any.safetensors" in str(error)
