"""Plan, doctor and convert with a tiny public model."""

import json

import pytest
import torch

from longtake.checkpoints.public_keys import key_map, to_public
from longtake.cli.main import run
from longtake.errors import CannotHere, MediaError
from longtake.media.video import VideoWriter
from longtake.official import plan
from longtake.official.folder import read_model
from longtake.official.pipeline import OfficialPipeline, Running
from longtake.official.plan import peaks_of, predict, text_shape
from longtake.official.settings import OfficialConfig
from longtake.official.transformer import load_transformer, shapes_of
from longtake.pipeline.precision import Arithmetic
from longtake.planner import Weights, live_peak
from longtake.recipes.encode import encode_clips
from longtake.train.latents import LatentFolder

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
CPU = torch.device("cpu")
FP32 = Weights(dtype=torch.float32)
SETTINGS = OfficialConfig(width=96, height=64, frames=9, steps=2)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(reference_pipeline, tmp_path):
    folder = tmp_path / "model"
    reference_pipeline().save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("vae", ["wan", "ltx2"])
def test_planned_memory_is_what_then_happens_to_5_percent(reference_pipeline, tmp_path, vae):
    model = tmp_path / "model"
    reference_pipeline(vae).save_pretrained(model)
    found = read_model(model)
    running = Running(device=CPU, dtype=torch.float32, offload="text")
    pipe = OfficialPipeline(found, running)
    condition, _ = pipe.condition("a ball", SETTINGS)
    noise = pipe.noise(SETTINGS)
    next(pipe.denoise(noise, condition, SETTINGS))
    denoiser, sigma = pipe.denoiser(), torch.full((1, noise.shape[2]), 0.5, dtype=torch.float64)
    with live_peak() as denoising:
        denoiser.predict(noise, sigma, denoiser.read(*condition[0]))
    list(pipe.decode(noise))
    with live_peak() as decoding:
        for _ in pipe.decode(noise):
            pass
    planned = peaks_of(found, SETTINGS, FP32, text_shape(found), "text")["text"]
    transformer = sum(w.numel() * 4 for w in load_transformer(
        model / "transformer", torch.float32, CPU).parameters())  # fmt: skip
    assert planned.denoise == pytest.approx(transformer + denoising.bytes, rel=0.05)
    vae = sum(
        w.numel() * 4
        for name, part in pipe._autoencoder.vae.named_children()
        for w in part.parameters()
        if name not in {"encoder", "quant_conv"}
    )
    assert planned.decode == pytest.approx(vae + decoding.bytes, rel=0.05)


def test_the_plan_takes_the_first_way_that_fits_and_refuses_with_one_that_would(model):
    found, film = read_model(model), OfficialConfig(width=256, height=192, frames=5, steps=2)
    ways = peaks_of(found, film, FP32, text_shape(found), "none", "text", "block")
    most = {way: peaks.most for way, peaks in ways.items()}
    assert ways["none"].denoise > ways["text"].denoise >= ways["block"].denoise
    assert ways["none"].decode > ways["text"].decode
    for limit in most.values():
        made = predict(
            found, film, Arithmetic(dtype=torch.float32), CPU, memory_bytes=limit, calibrate=False
        )
        assert made.device_bytes <= limit
        assert made.offload == next(w for w, bytes in most.items() if bytes <= limit)
    with pytest.raises(CannotHere, match=r"needs .* GiB with --offload block; .*would fit"):
        limit = most["block"] * 9 // 10
        predict(
            found, film, Arithmetic(dtype=torch.float32), CPU, memory_bytes=limit, calibrate=False
        )


def test_a_decoder_that_waits_on_the_host_takes_time_to_come(model, monkeypatch):
    found, film = read_model(model), OfficialConfig(width=96, height=64, frames=5, steps=2)
    monkeypatch.setattr(plan, "forward_seconds", lambda *_: 0.0)
    monkeypatch.setattr(plan, "host_rate", lambda _: 1000.0)
    seconds = {
        way: predict(
            found, film, Arithmetic(dtype=torch.float32), CPU, offload=way, memory_bytes=2**50
        ).seconds
        for way in ("none", "text", "block")
    }
    vae = OfficialPipeline(found, Running(device=CPU, dtype=torch.float32))
    with vae._vae_here("decode") as autoencoder:
        bytes_of = {
            name: sum(w.numel() * 4 for w in part.parameters())
            for name, part in autoencoder.vae.named_children()
        }
    waits = sum(bytes_of.values()) - bytes_of["encoder"] - bytes_of["quant_conv"]
    assert seconds["none"] == 0
    assert seconds["text"] == seconds["block"] == pytest.approx(waits / 1000)


def test_the_verb_tells_every_way_the_time_and_the_licences(model, capsys):
    asked = ["plan", "--model", str(model), "--size", "96x64", "--frames", "9", "--device", "cpu"]
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["peaks"]) == {"none", "text", "block"}
    assert told["seconds"] > 0
    assert told["licences"]["text_encoder"] == "Gemma Terms of Use"
    assert run(asked) == 0
    text = capsys.readouterr().out
    assert "<- this" in text
    assert "NVIDIA Open Model License" in text
    assert run(["plan", "--model", "previz"]) == 2
    assert "for public models" in capsys.readouterr().err


@pytest.mark.slow
def test_doctor_reads_every_byte_and_says_that_random_weights_do_not_predict(model, capsys):
    assert run(["doctor", "--model", str(model), "--device", "cpu"]) == 3
    out = capsys.readouterr().out
    for line in ("ok   configs", "ok   transformer", "ok   vae", "ok   text_encoder", "sha256"):
        assert line in out
    assert "BAD  one step: these weights do not predict" in out


def test_doctor_names_the_part_that_is_damaged(model, capsys):
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert run(["doctor", "--model", str(model), "--device", "cpu"]) == 3
    out, err = capsys.readouterr()
    assert "BAD  vae" in out
    assert "ok   transformer" in out
    assert "not as it should be: vae" in err


def test_convert_makes_a_whole_model_of_a_pth_and_another_s_parts(model, tmp_path, capsys):
    weights = load_transformer(model / "transformer", torch.float32, CPU)
    keys = key_map(weights.config, shapes_of(weights), "original")
    torch.save({"state_dict": to_public(keys, weights.state_dict())}, tmp_path / "a.pth")
    made = tmp_path / "made"
    asked = ["convert", str(tmp_path / "a.pth"), "--out", str(made), "--head-size", "12"]
    assert run([*asked, "--parts", str(model)]) == 0
    assert "parameters of its 'state_dict'" in capsys.readouterr().out
    again = load_transformer(made / "transformer", torch.float32, CPU)
    for name, value in weights.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    read_model(made)
    assert run(asked) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_conversion_that_fails_leaves_nothing(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(b"nothing of the kind")
    assert run(["convert", str(tmp_path / "a.pth"), "--out", str(tmp_path / "made")]) == 2
    assert "a.pth" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_clips_are_encoded_once_for_further_training(model, tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "encoded"
    clips.mkdir()
    for name in ("a", "b"):
        with VideoWriter(clips / f"{name}.mp4", width=96, height=64, metadata={}) as writer:
            writer.write(torch.randint(0, 255, (6, 64, 96, 3), dtype=torch.uint8))
        (clips / f"{name}.txt").write_text("a ball")
    film = OfficialConfig(width=96, height=64, frames=5, guidance=1.0)
    running = Running(device=CPU, dtype=torch.float32, offload="none")
    pipe = OfficialPipeline(read_model(model), running)
    made = list(encode_clips(pipe, clips, out, film))
    assert [each.file.name for each in made] == ["a.safetensors", "b.safetensors"]
    clip = LatentFolder(out, 0).clip(0, CPU)
    assert clip.latents.shape == (1, 4, 2, 8, 12)
    assert clip.text.shape[1] == clip.mask.shape[1]
    before = made[0].file.stat().st_mtime_ns
    list(encode_clips(pipe, clips, out, film))
    assert made[0].file.stat().st_mtime_ns == before
    (clips / "b.txt").unlink()
    (out / "b.safetensors").unlink()
    with pytest.raises(MediaError, match=r"must say what b\.mp4 shows"):
        list(encode_clips(pipe, clips, out, film))
