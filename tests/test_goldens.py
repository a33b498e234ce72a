"""What earlier releases wrote is still read: each format keeps a state and a manifest of its day.

A golden is never changed; a new format adds a folder beside it. `python tests/test_goldens.py`
writes the one of the present format where it is missing.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake import flow
from longtake.checkpoints import load_state
from longtake.config import Cue, SampleConfig, TransformerConfig
from longtake.errors import StateError
from longtake.kernels.ops import Memory
from longtake.model import LayerState, State, Transformer
from longtake.rollout.grid import Grid
from longtake.rollout.manifest import TakeManifest, read_manifest, write_manifest
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.rollout.take import Take
from longtake.samplers import sampler_of
from longtake.vae.autoencoder import StreamCache

GOLDENS = Path(__file__).parent / "goldens"
FORMATS = sorted(path.name for path in GOLDENS.glob("take_format_*"))
SHAPE = TransformerConfig(latent_channels=4, width=16, depth=1, heads=2, text_width=8)
WHO = Identity(
    model_hash="a1" * 32, precision="fp32", device="cpu", processor="AVX512", torch="2.13.0+cpu",
    numerics="b2" * 32,
)  # fmt: skip
MANIFEST = TakeManifest(
    film="take.mp4", model="previz", identity=WHO, threads=2, version="0.1.0", chunk=2,
    prompt="a red ball", cues=(Cue(at_s=0.5, text="the sun sets"), Cue(at_s=1.5, text="night")),
    keep=True, keep_every_s=0.5,
    settings=SampleConfig(width=96, height=64, frames=29, seed=7),
)  # fmt: skip


def counted(*shape: int) -> torch.Tensor:
    """Numbers that no library can change."""
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) % 7 / 8 - 0.375).reshape(shape)


def snapshot() -> Snapshot:
    memory = Memory(counted(2, 2, 8, 8), counted(2, 2, 1, 8).abs() + 1)
    state = State((LayerState(memory, counted(2, 6, 16).bfloat16()),), 5)
    notes = MANIFEST.told_before(2)
    decoder = StreamCache([counted(1, 2, 2, 3, 4), None, counted(1, 2, 4, 6, 2)])
    return Snapshot(chunk=2, state=state, decoder=decoder, notes=notes)


def hashes(found: Snapshot) -> dict[str, str]:
    """Checksums of all that a state holds."""
    layer = found.state.layers[0]
    tensors = {"sums": layer.memory.sums, "total": layer.memory.total, "frame": layer.frame}
    tensors |= {f"decoder.{n}": x for n, x in enumerate(found.decoder.blocks) if x is not None}
    return {
        name: hashlib.sha256(x.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, x in tensors.items()
    }


def identity(folder: Path) -> Identity:
    """Of whoever wrote it."""
    return Identity(**json.loads((folder / "expected.json").read_text())["identity"])


def test_the_present_format_has_its_golden():
    assert FORMATS == ["take_format_1"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_state_of_an_earlier_day_is_read_to_the_last_bit(name):
    folder = GOLDENS / name
    expected = json.loads((folder / "expected.json").read_text())
    found = load_snapshot(folder / "state-000002.safetensors", identity(folder))
    assert hashes(found) == expected["sha256"]
    assert (found.chunk, found.state.latent_frames) == (2, 5)
    assert dict(found.notes) == expected["notes"]
    assert [block is None for block in found.decoder.blocks] == [False, True, False]


@pytest.mark.parametrize("name", FORMATS)
def test_a_take_goes_on_from_a_state_of_an_earlier_day(name):
    folder = GOLDENS / name
    found = load_snapshot(folder / "state-000002.safetensors", identity(folder))
    layer = found.state.layers[0]
    state = found.state._replace(layers=(layer._replace(frame=layer.frame.float()),))
    take = Take(
        transformer=Transformer(SHAPE).eval().requires_grad_(False), grid=Grid(2), seed=0,
        sampler=sampler_of("euler"), sigmas=flow.schedule(1, 1.0), guidance=2.0, size=(2, 3),
    )  # fmt: skip
    text = torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    *_, last = take.roll(lambda _: text, range(2, 3), state)
    assert last.state.latent_frames == 7


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("field", ["processor", "torch", "numerics", "device"])
def test_a_state_of_other_arithmetic_is_read_only_if_that_is_allowed(name, field):
    folder = GOLDENS / name
    path, who = folder / "state-000002.safetensors", replace(identity(folder), **{field: "other"})
    with pytest.raises(StateError, match=f"{field} .*--allow-different"):
        load_snapshot(path, who)
    assert load_snapshot(path, who, allow_different=True).chunk == 2


@pytest.mark.parametrize("name", FORMATS)
def test_a_manifest_of_an_earlier_day_is_read(name):
    assert read_manifest(GOLDENS / name) == MANIFEST


@pytest.mark.parametrize("name", FORMATS)
def test_a_state_carries_its_format_and_a_hash_of_the_arithmetic(name):
    _, settings = load_state(GOLDENS / name / "state-000002.safetensors")
    assert settings["format"] == name.removeprefix("take_format_")
    assert len(settings["identity.numerics"]) == 64


def write() -> None:
    """Write the golden of the present format."""
    folder = GOLDENS / "take_format_1"
    folder.mkdir(parents=True)
    save_snapshot(folder / "state-000002.safetensors", snapshot(), WHO)
    write_manifest(folder, MANIFEST)
    fields = {name: getattr(WHO, name) for name in Identity.__dataclass_fields__}
    found = {"identity": fields, "sha256": hashes(snapshot()), "notes": dict(snapshot().notes)}
    (folder / "expected.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write()
