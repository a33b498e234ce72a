"""A LoRA folded in, or beside the weights, is W + strength * alpha / rank * B A, and films tell."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_help import loaded, random_factors, save_model, save_random_lora

from longtake.checkpoints import content_hash
from longtake.cli.main import DONE, run
from longtake.config import LoraUse, SampleConfig, TransformerConfig
from longtake.errors import SettingError
from longtake.media.manifest import from_tags
from longtake.media.video import read_metadata, read_video
from longtake.model import Transformer
from longtake.model.lora import Branches, Factors, change, fold, matrices, shapes
from longtake.official.transformer import load_transformer, save_transformer
from longtake.pipeline import build
from longtake.pipeline.loras import lay

FILM = ["a red ball bounces on grass", "--size", "96x64", "--frames", "9", "--device", "cpu"]
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
PUBLIC = TransformerConfig(
    latent_channels=4, width=32, depth=2, heads=2, text_width=24, patch=(1, 2, 2),
    rope_theta=10_000.0, cross_heads=2, cross_width=32, norm_eps=1e-6, attention_eps=1e-15,
)  # fmt: skip


@pytest.fixture
def model(tmp_path, tiny):
    return save_model(tmp_path / "model", tiny)


def inputs(config, rows=2):
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(rows, config.latent_channels, 3, 2, 4, generator=generator),
        torch.rand(rows, 3, generator=generator),
        torch.randn(rows, 5, config.text_width, generator=generator),
        torch.ones(rows, 5, dtype=torch.bool),
    )


def test_branches_begin_as_the_model_is_and_then_equal_the_folded_change(tiny):
    torch.manual_seed(0)
    _, plain, _ = build(tiny)
    torch.nn.init.normal_(plain.head.weight, std=0.2)
    given = inputs(tiny.transformer)
    before = plain(*given)
    branches = Branches(plain, rank=3, alpha=6.0)
    assert torch.equal(plain(*given), before)
    with torch.no_grad():
        for b in branches.b.values():
            b.normal_(std=0.2)
    beside = plain(*given)
    branches.detach()
    assert torch.equal(plain(*given), before)
    fold(plain, branches.changes(), scale=2.0)
    torch.testing.assert_close(plain(*given), beside, **CLOSE)
    assert (beside - before).abs().max() > 0.01


def test_only_branches_learn(tiny):
    _, plain, _ = build(tiny)
    torch.nn.init.normal_(plain.head.weight, std=0.2)
    branches = Branches(plain, rank=2, alpha=2.0)
    assert not any(p.requires_grad for p in plain.parameters())
    plain(*inputs(tiny.transformer)).square().sum().backward()
    assert all(p.grad is not None for p in branches.parameters())
    assert len(branches.a) == len(matrices(plain)) == 7 * tiny.transformer.depth


def test_a_change_is_linear_in_its_scale_and_of_its_rank():
    a, b = torch.randn(3, 8), torch.randn(6, 3)
    torch.testing.assert_close(change(Factors(a, b), 2.5), 2.5 * b @ a)
    assert torch.linalg.matrix_rank(change(Factors(a, b), 1.0)) == 3


def test_the_public_network_takes_the_same_changes(tmp_path):
    """On random weights of the public shape, through the public folder."""
    plain = Transformer(PUBLIC)
    torch.nn.init.normal_(plain.head.weight, std=0.2)
    save_transformer(plain, tmp_path / "transformer")
    public = load_transformer(tmp_path / "transformer", torch.float32, torch.device("cpu"))
    given = inputs(PUBLIC)
    torch.testing.assert_close(public(*given), plain(*given), **CLOSE)
    branches = Branches(public, rank=2, alpha=4.0)
    optimiser = torch.optim.AdamW(branches.parameters(), lr=0.05)
    target = torch.randn_like(given[0])
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = (public(*given)[:, :4] - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    taught = public(*given)
    branches.detach()
    again = load_transformer(tmp_path / "transformer", torch.float32, torch.device("cpu"))
    fold(again, branches.changes(), branches.scale)
    torch.testing.assert_close(again(*given), taught, **CLOSE)


def test_a_lora_is_folded_at_load_and_the_hash_tells_of_it(model, tmp_path):
    plain = loaded(model)
    file = save_random_lora(tmp_path / "a.safetensors", plain)
    half = loaded(model, LoraUse(file=str(file), strength=0.5))
    names = matrices(plain.transformer)
    for name, factors in random_factors(plain).items():
        wanted = names[name].weight + change(factors, 0.5 * 2.0 / 2)
        torch.testing.assert_close(matrices(half.transformer)[name].weight, wanted, **CLOSE)
    whole = loaded(model, LoraUse(file=str(file)))
    hashes = {plain.model_hash, half.model_hash, whole.model_hash}
    assert len(hashes) == 3
    assert plain.model_hash == content_hash(model)
    assert whole.loras[0].sha256 and whole.identity.model_hash == whole.model_hash


def test_strength_zero_leaves_the_film_and_two_halves_make_a_whole(model, tmp_path):
    settings = SampleConfig(width=96, height=64, frames=5, steps=2)
    plain = loaded(model)
    file = str(save_random_lora(tmp_path / "a.safetensors", plain))

    def film(*strengths):
        pipe = loaded(model, *(LoraUse(file=file, strength=s) for s in strengths))
        return pipe.generate("a red ball", settings=settings).frames.int()

    assert torch.equal(film(0.0), film())
    assert (film(0.5, 0.5) - film(1.0)).abs().max() <= 1
    assert (film(1.0) - film()).abs().max() > 3


def test_the_film_carries_its_lora_and_is_reproduced_with_it_alone(
    model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_random_lora(tmp_path / "style.safetensors", loaded(model))
    asked = ["generate", *FILM, "--model", "model", "--lora", "style.safetensors:0.75"]
    assert run([*asked, "--steps", "2", "-o", "film.mp4"]) == DONE
    told = from_tags(read_metadata(Path("film.mp4")))
    (use,) = told.loras
    assert (use.file, use.strength, len(use.sha256)) == ("style.safetensors", 0.75, 64)
    capsys.readouterr()
    again = ["reproduce", "film.mp4", "--model", "model", "--json"]
    assert run(again) == DONE
    assert json.loads(capsys.readouterr().out)["same_bytes"]
    Path("style.safetensors").rename("moved.safetensors")
    assert run(again) == 2
    assert "style.safetensors; name where it lies with --lora" in capsys.readouterr().err
    assert run([*again, "--lora", "moved.safetensors:0.75"]) == DONE
    assert json.loads(capsys.readouterr().out)["same_bytes"]
    assert run([*again, "--lora", "moved.safetensors:0.5"]) == DONE
    other = json.loads(capsys.readouterr().out)
    assert not other["same_bytes"]
    assert any("weights" in reason for reason in other["reasons"])
    other = save_random_lora(tmp_path / "style.safetensors", loaded(model), rank=3)
    assert run(again) == 2
    assert "is another LoRA than the one of that name before" in capsys.readouterr().err


def test_a_take_goes_on_with_its_lora_and_not_without(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model", replace(tiny, chunk=1))
    save_random_lora(tmp_path / "style.safetensors", loaded(tmp_path / "model"))
    asked = ["generate", *FILM, "--model", "model", "--lora", "style.safetensors", "--keep"]
    assert run([*asked, "--steps", "2", "-o", "film.mp4"]) == DONE
    assert run(["extend", "film.mp4", "--seconds", "0.25", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 13
    Path("style.safetensors").rename("moved.safetensors")
    assert run(["extend", "film.mp4", "--seconds", "0.25", "-o", "b.mp4"]) == 2
    assert "name where it lies now with --lora" in capsys.readouterr().err
    more = ["extend", "film.mp4", "--seconds", "0.25", "-o", "b.mp4", "--lora"]
    assert run([*more, "moved.safetensors:0.9"]) == 2
    assert "was made with model_hash" in capsys.readouterr().err
    assert run([*more, "moved.safetensors"]) == DONE


def test_a_shot_has_its_own_lora(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_random_lora(tmp_path / "style.safetensors", loaded(model))
    rows = ["name,frames,prompt,seed,lora", "A,9,a red ball,1,", "B,9,a red ball,1,{}"]
    Path("s.csv").write_text("\n".join(rows).format("style.safetensors:1"))
    shoot = ["shoot", "s.csv", "-o", "scene", "--model", "model", "--size", "96x64"]
    shoot += ["--rate", "16", "--steps", "2", "--no-slate", "--json", "--device", "cpu"]
    assert run(shoot) == DONE
    first = json.loads(capsys.readouterr().out)
    a, b = (read_video(Path(shot["file"]))[0].int() for shot in first["shots"])
    assert (a - b).abs().max() > 3
    Path("s.csv").write_text("\n".join(rows).format("style.safetensors:0.5"))
    assert run(shoot) == DONE
    second = json.loads(capsys.readouterr().out)
    assert [shot["how"] for shot in second["shots"]] == ["kept", "made"]
    assert run(["reproduce", "scene/scene.mp4", "--model", "model", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["same_bytes"]
    Path("s.csv").write_text("\n".join(rows).format("gone.safetensors"))
    assert run(shoot) == 2
    assert "row 3, column lora: there is no LoRA" in capsys.readouterr().err


def test_merging_makes_a_model_that_films_as_the_lora_does(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_random_lora(tmp_path / "a.safetensors", loaded(model))
    assert run(["lora", "merge", "a.safetensors:0.5", "--model", "model", "-o", "m", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model_hash"] == content_hash(Path("m"))
    use = LoraUse(file="a.safetensors", strength=0.5)
    settings = SampleConfig(width=96, height=64, frames=5, steps=2)
    merged, laid = (
        pipe.generate("a red ball", settings=settings).frames.int()
        for pipe in (loaded(Path("m")), loaded(model, use))
    )
    # Merged weights are stored in bf16.
    assert (merged - laid).abs().float().mean() < 1
    assert run(["lora", "merge", "a.safetensors", "--model", "model", "-o", "m"]) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert run(["lora", "merge", "-o", "n"]) == 2
    assert "the LoRA is missing" in capsys.readouterr().err


def test_too_many_loras_are_refused(model, tmp_path):
    plain = loaded(model)
    use = LoraUse(file=str(save_random_lora(tmp_path / "a.safetensors", plain)))
    with pytest.raises(SettingError, match="at most 8 LoRAs"):
        lay(plain.transformer, [use] * 9, plain.model_hash)


def test_all_matrices_of_the_layers_can_change(tiny):
    _, transformer, _ = build(tiny)
    assert shapes(transformer)["blocks.0.feed_forward.up"] == (240, 48)
    assert {name.split(".")[0] for name in shapes(transformer)} == {"blocks"}
