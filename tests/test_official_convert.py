"""The authors' .pth files: converted exactly, and never more than read."""

import pickle
from dataclasses import replace

import pytest
import torch

from longtake.checkpoints.public_keys import key_map, to_public
from longtake.config import TransformerConfig
from longtake.errors import WeightsError
from longtake.model import Transformer
from longtake.official.pth import convert, rewrite
from longtake.official.transformer import load_transformer

SMALL = TransformerConfig(
    latent_channels=4, width=24, depth=2, heads=2, ffn_ratio=3.0, text_width=16,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5, attention_eps=1e-15,
)  # fmt: skip
CPU = torch.device("cpu")


def weights(config=SMALL):
    model = Transformer(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return model, to_public(key_map(config, shapes, "original"), model.state_dict())


def wrapped(tensors, how):
    match how:
        case "bare":
            return tensors
        case "the authors'":
            extra = {"pos_embed": torch.zeros(1, 4, 24), "logvar_linear.weight": torch.zeros(1, 24),
                     "y_embedder.y_embedding": torch.zeros(300, 16)}  # fmt: skip
            return {"state_dict": tensors | extra, "epoch": 3}
        case "LongSANA's":
            inner = {f"model._fsdp_wrapped_module.{k}": v for k, v in tensors.items()}
            return {"generator": inner, "critic": {k: v + 1 for k, v in tensors.items()}}
        case _:
            return {"generator_ema": {f"model.{k}": v for k, v in tensors.items()},
                    "generator": {k: v * 0 for k, v in tensors.items()}}  # fmt: skip


@pytest.mark.parametrize("how", ["bare", "the authors'", "LongSANA's", "averaged"])
@pytest.mark.parametrize("old", [False, True])
def test_weights_come_through_bit_by_bit_however_they_are_wrapped(tmp_path, how, old):
    model, tensors = weights()
    torch.save(wrapped(tensors, how), tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    made = rewrite(tmp_path / "a.pth", tmp_path / "out", 12)
    again = load_transformer(tmp_path / "out", torch.float32, CPU)
    assert made["parameters"] == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    assert set(made["ignored"]) == (
        {"pos_embed", "logvar_linear.weight", "y_embedder.y_embedding"}
        if how == "the authors'"
        else set()
    )


def test_the_shape_is_read_from_the_weights(tmp_path):
    config = replace(SMALL, latent_channels=8, patch=(1, 1, 1), depth=3, ffn_ratio=2.5)
    _, tensors = weights(config)
    torch.save(tensors, tmp_path / "a.pth")
    rewrite(tmp_path / "a.pth", tmp_path / "out", 12)
    found = load_transformer(tmp_path / "out", torch.float32, CPU).config
    assert (found.latent_channels, found.patch, found.depth) == (8, (1, 1, 1), 3)
    assert (found.ffn_ratio, found.heads, found.text_width) == (2.5, 2, 16)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/longtake-was-here", "w"))


def damaged(tensors, how):  # noqa: PLR0911 - a table
    match how:
        case "a missing tensor":
            return {k: v for k, v in tensors.items() if k != "blocks.1.attn.proj.bias"}
        case "an extra tensor":
            return tensors | {"blocks.0.camera.weight": torch.zeros(3)}
        case "a misshapen tensor":
            return tensors | {"blocks.1.attn.proj.bias": torch.zeros(25)}
        case "not numbers":
            return tensors | {"blocks.1.attn.proj.bias": torch.full((24,), float("nan"))}
        case "whole numbers":
            return tensors | {"blocks.1.attn.proj.bias": torch.zeros(24, dtype=torch.int64)}
        case "a sparse tensor":
            return tensors | {"blocks.1.attn.proj.bias": torch.zeros(24).to_sparse()}
        case "another model":
            return {"layer.weight": torch.zeros(3, 3)}
        case "no weights":
            return {"state_dict": {"a": 3}}
        case _:
            return [1, 2, 3]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("a missing tensor", "'blocks.1.attn.proj.bias' is missing"),
        ("an extra tensor", "'blocks.0.camera.weight' is not part"),
        ("a misshapen tensor", r"has shape \(25,\), the model wants \(24,\)"),
        ("not numbers", "values from nan"),
        ("whole numbers", "is torch.int64"),
        ("a sparse tensor", "sparse"),
        ("another model", "is no SANA-Video transformer"),
        ("no weights", "holds no weights"),
        ("a list", "holds no weights"),
    ],
)
def test_what_is_no_such_model_is_refused_by_name(tmp_path, how, told):
    torch.save(damaged(weights()[1], how), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=told):
        rewrite(tmp_path / "a.pth", tmp_path / "out", 12)
    assert not (tmp_path / "out" / "config.json").exists()


def test_code_in_a_file_is_never_run(tmp_path, monkeypatch):
    mark = tmp_path / "was-here"
    monkeypatch.setattr(Evil, "__reduce__", lambda self: (open, (str(mark), "w")))
    for name, write in (
        ("zip.pth", lambda p: torch.save({"state_dict": Evil()}, p)),
        ("plain.pth", lambda p: p.write_bytes(pickle.dumps(Evil()))),
    ):
        write(tmp_path / name)
        with pytest.raises(WeightsError, match="no file of plain weights"):
            convert(tmp_path / name, tmp_path / "out", head_size=12)
    assert not mark.exists()


def test_the_child_converts_as_it_would_be_done_here(tmp_path):
    model, tensors = weights()
    torch.save({"state_dict": tensors}, tmp_path / "a.pth")
    made = convert(tmp_path / "a.pth", tmp_path / "out", head_size=12)
    assert made.parameters == sum(p.numel() for p in model.parameters())
    assert made.holder == "state_dict"
    again = load_transformer(tmp_path / "out", torch.float32, CPU)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pth"):
        rewrite(tmp_path / "a.pth", tmp_path / "out", 12)
    with pytest.raises(WeightsError, match="cannot read"):
        convert(tmp_path / "nowhere.pth", tmp_path / "out")


def test_a_tensor_that_would_fill_the_memory_is_stopped(tmp_path):
    tensors = weights()[1]
    tensors["x_embedder.proj.bias"] = torch.zeros(1).expand(2**38)
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="the model wants"):
        convert(tmp_path / "a.pth", tmp_path / "out", head_size=12)
