"""The command line with a tiny public model: films, options, and everything that can be wrong."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from longtake.cli.main import run
from longtake.media.video import read_metadata, read_video

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
SMALL = {"--size": "96x64", "--frames": "5", "--steps": "2", "--device": "cpu"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(reference_pipeline, tmp_path):
    folder = tmp_path / "model"
    reference_pipeline().save_pretrained(folder)
    return folder


def make(model, film, *more):
    options = [word for pair in SMALL.items() if pair[0] not in more for word in pair]
    where = ["--model", str(model), "-o", str(film), "--quiet"]
    return run(["generate", "a red ball", *where, *options, *more])


def test_a_film_is_made_and_says_what_it_was_made_from(model, tmp_path, capsys):
    assert make(model, tmp_path / "a.mp4", "--precision", "fp32", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["width"], report["height"]) == (5, 96, 64)
    frames, rate = read_video(tmp_path / "a.mp4")
    assert frames.shape == (5, 64, 96, 3)
    assert rate == 16
    record = json.loads(read_metadata(tmp_path / "a.mp4")["longtake"])
    assert record["settings"]["guidance"] == 6.0
    assert record["settings"]["flow_shift"] == 8.0
    assert record["licences"]["text_encoder"] == "Gemma Terms of Use"


def test_a_film_begins_with_the_picture_given(model, tmp_path):
    Image.new("RGB", (96, 64), "red").save(tmp_path / "red.png")
    assert make(model, tmp_path / "a.mp4", "--image", str(tmp_path / "red.png")) == 0
    assert make(model, tmp_path / "b.mp4") == 0
    with_picture, without = (read_video(tmp_path / f"{n}.mp4")[0] for n in "ab")
    assert not torch.equal(with_picture, without)


@pytest.mark.slow
def test_every_option_changes_the_film_and_the_same_ones_give_the_same(model, tmp_path):
    films = []
    for number, more in enumerate((
        [], [], ["--seed", "1"], ["--steps", "3"], ["--guidance", "2"], ["--flow-shift", "3"],
        ["--motion-score", "90"], ["--negative", "grey"], ["--instruction", "image"],
        ["--sampler", "euler"],
    )):  # fmt: skip
        film = tmp_path / f"{number}.mp4"
        plain = ["--no-sheet", "--no-metadata", "--precision", "fp32", "--frames", "1"]
        assert make(model, film, *plain, *more) == 0
        films.append(film.read_bytes())
    assert films[0] == films[1]
    assert len(set(films)) == len(films) - 1


@pytest.mark.parametrize("offload", ["none", "text", "block"])
def test_offloading_changes_nothing_but_memory(model, tmp_path, offload):
    for name, how in (("a", "none"), ("b", offload)):
        assert make(model, tmp_path / f"{name}.mp4", "--no-metadata", "--offload", how) == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil(path, value):
    tensors = load_file(path)
    name = min(tensors)
    tensors[name] = torch.full_like(tensors[name], value)
    save_file(tensors, path)


DIFFUSION = "diffusion_pytorch_model.safetensors"
DAMAGE = {
    "half a transformer": (lambda m: truncate(m / "transformer" / DIFFUSION), "truncated"),
    "half a VAE": (lambda m: truncate(m / "vae" / DIFFUSION), "truncated"),
    "half a text encoder": (lambda m: truncate(m / "text_encoder/model.safetensors"), "truncated"),
    "no transformer": (lambda m: (m / "transformer" / DIFFUSION).unlink(), "is missing"),
    "no VAE folder": (lambda m: shutil.rmtree(m / "vae"), "lacks the folder vae"),
    "an index naming a missing file": (
        lambda m: (m / "transformer" / f"{DIFFUSION}.index.json").write_text(
            json.dumps({"weight_map": {"proj_out.bias": "gone.safetensors"}})),
        "gone.safetensors is missing"),
    "an index leading elsewhere": (
        lambda m: (m / "transformer" / f"{DIFFUSION}.index.json").write_text(
            json.dumps({"weight_map": {"proj_out.bias": "../../etc/passwd"}})),
        "is damaged"),
    "an unknown pipeline": (
        lambda m: edit(m / "model_index.json", _class_name="EvilPipeline"), "EvilPipeline"),
    "an unknown transformer": (
        lambda m: edit(m / "transformer/config.json", _class_name="Evil"), "names the class"),
    "an unknown key": (
        lambda m: edit(m / "transformer/config.json", num_layer=3), "did you mean 'num_layers'"),
    "an unknown key of the VAE": (
        lambda m: edit(m / "vae/config.json", z_dims=3), "unknown setting 'z_dims'"),
    "an unknown VAE": (
        lambda m: edit(m / "vae/config.json", _class_name="AutoencoderDC"), "AutoencoderDC"),
    "a VAE of another model": (
        lambda m: edit(m / "vae/config.json", z_dim=16), "belong to different models"),
    "an unknown scheduler": (
        lambda m: edit(m / "scheduler/scheduler_config.json", _class_name="DDIMScheduler"),
        "DDIMScheduler"),
    "a scheduler of another kind": (
        lambda m: edit(m / "scheduler/scheduler_config.json", prediction_type="epsilon"),
        "prediction_type"),
    "another text encoder": (
        lambda m: edit(m / "text_encoder/config.json", model_type="llama"), "known here: Gemma-2"),
    "a text encoder of another width": (
        lambda m: edit(m / "text_encoder/config.json", hidden_size=24), "reads 16"),
    "a text encoder that wants code": (
        lambda m: edit(m / "text_encoder/config.json", auto_map={"AutoModel": "evil.Model"}),
        "nothing a model brings is run"),
    "a tokenizer that wants code": (
        lambda m: edit(m / "tokenizer/tokenizer_config.json", auto_map={"x": "evil.T"}),
        "nothing a model brings is run"),
    "no tokenizer": (lambda m: (m / "tokenizer/tokenizer.json").unlink(), "tokenizer.json"),
    "a damaged tokenizer": (
        lambda m: (m / "tokenizer/tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
    "a tokenizer that is none": (
        lambda m: (m / "tokenizer/tokenizer.json").write_text('{"model": 3}'),
        "tokenizer.json is damaged"),
    "a tokenizer of another model": (
        lambda m: edit(m / "text_encoder/config.json", vocab_size=5), "tensor"),
    "weights that are not numbers": (
        lambda m: spoil(m / "transformer" / DIFFUSION, float("nan")), "values from nan"),
    "a VAE that is not numbers": (
        lambda m: spoil(m / "vae" / DIFFUSION, float("inf")), "values from inf"),
    "text weights that are not numbers": (
        lambda m: spoil(m / "text_encoder/model.safetensors", float("nan")), "values from nan"),
    "config that is no JSON": (
        lambda m: (m / "transformer/config.json").write_text("not json"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_model_is_refused_in_one_line_and_leaves_nothing(model, tmp_path, capsys, how):
    damage, told = DAMAGE[how]
    damage(model)
    assert make(model, tmp_path / "a.mp4") in {2, 3}
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert told in err[0]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--size", "100x64"], "multiples of 16"),
        (["--steps", "0"], "steps must be"),
        (["--motion-score", "-1"], "motion_score must be"),
        (["--prompt-at", "1s", "x"], "--prompt-at needs a model that goes on"),
        (["--keep"], "--keep needs a model that goes on"),
        (["--image", "/nowhere.png"], "nowhere.png"),
    ],
)
def test_a_setting_it_cannot_have_is_refused_in_one_line(model, tmp_path, capsys, more, told):
    assert make(model, tmp_path / "a.mp4", *more) == 2
    assert told in capsys.readouterr().err


def test_a_prompt_of_ten_thousand_words_is_refused(model, tmp_path, capsys):
    code = run(["generate", "word " * 10_000, "--model", str(model), "-o", str(tmp_path / "a.mp4")])
    assert code == 2
    assert "the most is 10,000" in capsys.readouterr().err


def test_what_public_models_know_is_refused_for_ours(tmp_path, capsys):
    film = str(tmp_path / "a.mp4")
    assert run(["generate", "a red ball", "-o", film, "--motion-score", "3"]) == 2
    assert "--motion-score is for public models" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["fp8", "nvfp4"])
def test_a_public_model_is_stored_in_few_bits_and_makes_the_same_film(model, tmp_path, capsys, how):
    few = tmp_path / "few"
    assert run(["quantize", str(model), "--precision", how, "-o", str(few)]) == 0
    assert "layers in" in capsys.readouterr().out
    films = []
    for folder, more in ((few, ()), (model, ("--precision", how))):
        films.append(tmp_path / f"{folder.name}.mp4")
        assert make(folder, films[-1], *more, "--json") == 0
        told = json.loads(capsys.readouterr().out)["warnings"]
        assert any(f"{how}: this CPU has no units" in text for text in told)
    made = [read_video(film)[0] for film in films]
    assert torch.equal(*made)
    assert make(few, tmp_path / "c.mp4", "--offload", "block") == 0
    assert torch.equal(read_video(tmp_path / "c.mp4")[0], made[0])


def test_a_name_that_is_neither_folder_nor_model_is_told(tmp_path, capsys):
    assert run(["generate", "a ball", "--model", str(tmp_path), "-o", str(tmp_path / "a.mp4")]) == 2
    assert "no model named" in capsys.readouterr().err


def test_longsana_makes_a_film_chunk_by_chunk_without_guidance(model, tmp_path, capsys):
    edit(model / "transformer/config.json", _class_name="SanaVideoCausalTransformer3DModel")
    assert make(model, tmp_path / "a.mp4", "--frames", "81", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 81
    record = json.loads(read_metadata(tmp_path / "a.mp4")["longtake"])
    assert (record["settings"]["guidance"], record["settings"]["motion_score"]) == (1.0, 10)
    assert make(model, tmp_path / "b.mp4", "--guidance", "6") == 2
    assert "guidance must be 1 with LongSANA" in capsys.readouterr().err


def together(model, film, *more):
    """The same command in a process of its own, as several begin with it."""
    options = [word for pair in SMALL.items() if pair[0] not in more for word in pair]
    where = ["--model", str(model), "-o", str(film), "--precision", "fp32", "--no-metadata"]
    command = [sys.executable, "-m", "longtake", "generate", "a red ball", *where]
    return subprocess.run([*command, *options, *more], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("gpus", ["2", "4"])
def test_several_processes_make_the_film_of_one(model, tmp_path, gpus):
    assert together(model, tmp_path / "a.mp4", "--frames", "9").returncode == 0
    done = together(model, tmp_path / "b.mp4", "--frames", "9", "--gpus", gpus)
    assert done.returncode == 0, done.stderr
    assert f"{gpus} GPUs: 2 passes of guidance at once" in done.stderr
    assert done.stdout.count("contact sheet") == 1
    one, several = (read_video(tmp_path / f"{name}.mp4")[0].float() for name in "ab")
    # A codec makes more of differences in rounding than they are.
    assert one.std() > 10
    assert (one - several).abs().mean() < 0.5


@pytest.mark.slow
def test_longsana_decoded_meanwhile_has_the_same_bytes(model, tmp_path):
    edit(model / "transformer/config.json", _class_name="SanaVideoCausalTransformer3DModel")
    long = ("--frames", "85", "--steps", "4")
    assert together(model, tmp_path / "a.mp4", *long).returncode == 0
    done = together(model, tmp_path / "b.mp4", *long, "--gpus", "2")
    assert "2 GPUs: the last decodes meanwhile" in done.stderr
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.slow
def test_what_every_process_refuses_is_told_once(model, tmp_path):
    done = together(model, tmp_path / "a.mp4", "--frames", "5", "--gpus", "8")
    assert done.returncode == 3
    assert done.stderr == "error: 8 GPUs share 2 latent frames; use --gpus 4 or fewer\n"
    done = together(model, tmp_path / "a.mp4", "--gpus", "0")
    assert done.returncode == 2
    assert done.stderr == "error: --gpus must be at least 1, got 0; try 2\n"
