"""Prompt, and first frame, to pixels: ours against the reference library's pipelines."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.official.folder import read_model
from longtake.official.parts import instruction_text, load_text_encoder
from longtake.official.pipeline import OfficialPipeline, Running
from longtake.official.settings import OfficialConfig
from longtake.pipeline import Frames, Notice
from longtake.text.gemma import encode, with_motion
from longtake.vae.public import PublicAutoencoder
from longtake.vae.tiling import Tiling

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
PIXELS = 1e-3
EMBEDDINGS = 1e-5
PROMPT = "A Red ball bounces"
CPU = torch.device("cpu")
SETTINGS = OfficialConfig(
    width=96, height=64, frames=9, steps=4, guidance=5.0, negative="blurry", motion_score=30
)


def ours(folder, **running):
    return OfficialPipeline(read_model(folder), Running(device=CPU, dtype=torch.float32, **running))


def noise_for(pipe, settings):
    channels = pipe.model.transformer.latent_channels
    frames, stride = pipe.model.latent_frames(settings.frames), pipe.model.vae.spatial_stride
    sides = (settings.height // stride, settings.width // stride)
    generator = torch.Generator().manual_seed(11)
    return torch.randn(1, channels, frames, *sides, generator=generator)


def film_of(pipe, settings, noise, image=None):
    condition, _ = pipe.condition(PROMPT, settings)
    first = None if image is None else pipe.first_frame(image)
    *_, latents = pipe.denoise(noise, condition, settings, first)
    frames = torch.cat([part[0] for part in pipe.decode(latents)])
    return (frames[: settings.frames] + 1) / 2


def theirs(reference, settings, noise, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.set_progress_bar_config(disable=True)
        return torch.from_numpy(
            reference(
                prompt=with_motion(PROMPT, settings.motion_score),
                negative_prompt=settings.negative,
                height=settings.height,
                width=settings.width,
                frames=settings.frames,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                latents=noise.clone(),
                output_type="np",
                use_resolution_binning=False,
                **more,
            ).frames[0]
        )


@pytest.mark.parametrize("vae", ["wan", "ltx2"])
@pytest.mark.parametrize("scheduler", ["dpm", "euler"])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@torch.no_grad()
def test_text_to_pixels_is_the_references(reference_pipeline, tmp_path, vae, scheduler, guidance):
    reference = reference_pipeline(vae, scheduler)
    reference.save_pretrained(tmp_path)
    pipe = ours(tmp_path, offload="none")
    settings = OfficialConfig(
        width=96, height=64, frames=9, steps=4, guidance=guidance, negative="blurry",
        sampler=pipe.model.sampler, flow_shift=pipe.model.flow_shift,
    )  # fmt: skip
    noise = noise_for(pipe, settings)
    frames, wanted = film_of(pipe, settings, noise), theirs(reference, settings, noise)
    assert frames.shape == wanted.shape
    assert wanted.std() > 0.01
    assert (frames - wanted).abs().max() <= PIXELS


@pytest.mark.parametrize("vae", ["wan", "ltx2"])
@pytest.mark.parametrize("scheduler", ["dpm", "euler"])
@torch.no_grad()
def test_image_to_pixels_is_the_references(reference_pipeline, tmp_path, vae, scheduler):
    text = reference_pipeline(vae, scheduler)
    text.save_pretrained(tmp_path)
    reference = diffusers.SanaImageToVideoPipeline(**text.components)
    pipe = ours(tmp_path, offload="none")
    settings = OfficialConfig(
        width=96, height=64, frames=9, steps=4, guidance=5.0, negative="blurry",
        sampler=scheduler, flow_shift=8.0,
    )  # fmt: skip
    noise = noise_for(pipe, settings)
    pixels = np.random.default_rng(2).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    wanted = theirs(reference, settings, noise, image=Image.fromarray(pixels))
    frames = film_of(pipe, settings, noise, torch.from_numpy(pixels))
    assert (frames - wanted).abs().max() <= PIXELS


@pytest.mark.parametrize("wording", ["video", "image", "none"])
@torch.no_grad()
def test_embeddings_and_masks_are_the_references(reference_pipeline, tmp_path, wording):
    reference = reference_pipeline()
    reference.save_pretrained(tmp_path)
    tokenizer, encoder = load_text_encoder(tmp_path, torch.float32, CPU)
    instruction = instruction_text(wording)
    for prompt in (PROMPT, "x", "a long one " * 60):
        text, mask = encode(tokenizer, encoder, prompt, instruction, CPU)
        wanted, wanted_mask, *_ = reference.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            complex_human_instruction=instruction.split("\n") if instruction else None,
            device=CPU,
        )
        assert torch.equal(mask.long(), wanted_mask)
        assert (text - wanted).norm() <= EMBEDDINGS * wanted.norm()


def test_the_two_wordings_differ_and_come_from_the_reference():
    assert instruction_text("video") != instruction_text("image")
    assert "\n" in instruction_text("image")
    assert instruction_text("none") == ""


@pytest.mark.parametrize("offload", ["none", "text", "block"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_offload_makes_the_same_film(reference_pipeline, tmp_path, offload, precision):
    reference_pipeline().save_pretrained(tmp_path / "model")
    films = [
        torch.cat(
            [
                event.pixels
                for event in OfficialPipeline(
                    read_model(tmp_path / "model"),
                    Running(device=CPU, dtype=precision, offload=mode, cache=tmp_path / "cache"),
                ).stream(PROMPT, SETTINGS)
                if isinstance(event, Frames)
            ]
        )
        for mode in ("none", offload)
    ]
    assert films[0].shape == (9, 64, 96, 3)
    assert torch.equal(*films)


def test_longsana_hands_out_frames_between_its_chunks_unless_memory_is_short(
    reference_pipeline, tmp_path
):
    folder = tmp_path / "model"
    reference_pipeline().save_pretrained(folder)
    config = folder / "transformer" / "config.json"
    causal = {"_class_name": "SanaVideoCausalTransformer3DModel"}
    config.write_text(json.dumps(json.loads(config.read_text()) | causal))
    settings = replace(SETTINGS, frames=85, guidance=1.0)
    films, order = [], []
    for mode in ("none", "text", "block"):
        running = Running(device=CPU, dtype=torch.float32, offload=mode, cache=tmp_path / "cache")
        events = list(OfficialPipeline(read_model(folder), running).stream(PROMPT, settings))
        films.append(torch.cat([e.pixels for e in events if isinstance(e, Frames)]))
        chunks = [n for n, e in enumerate(events) if getattr(e, "stage", "") == "denoise"]
        order.append(next(n for n, e in enumerate(events) if isinstance(e, Frames)) < chunks[-1])
    assert order == [True, True, False]
    assert films[0].shape == (85, 64, 96, 3)
    assert torch.equal(films[0], films[1])
    assert torch.equal(films[0], films[2])


def test_a_prompt_met_before_needs_no_text_encoder(reference_pipeline, tmp_path):
    folder = tmp_path / "model"
    reference_pipeline().save_pretrained(folder)
    first, _ = ours(folder, cache=tmp_path / "cache").condition(PROMPT, SETTINGS)
    (folder / "text_encoder" / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "text_encoder" / "model.safetensors").touch()
    assert ours(folder, cache=tmp_path / "cache2").cache.get("0" * 64) is None
    (folder / "text_encoder" / "model.safetensors").unlink()
    (tmp_path / "elsewhere").rename(folder / "text_encoder" / "model.safetensors")
    again, _ = ours(folder, cache=tmp_path / "cache").condition(PROMPT, SETTINGS)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_prompt_too_long_is_cut_and_said_so(reference_pipeline, tmp_path):
    reference_pipeline().save_pretrained(tmp_path)
    _, notices = ours(tmp_path).condition("very " * 100, SETTINGS)
    assert "tokens were left out" in notices[0]
    short = [e for e in ours(tmp_path).stream(PROMPT, SETTINGS) if isinstance(e, Notice)]
    assert short == []


@pytest.mark.slow
@torch.no_grad()
def test_seams_of_tiles_lie_40_db_below_the_untiled_picture():
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=8, block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(5, 5, 5, 5), decoder_causal=False,
        spatial_compression_ratio=32, temporal_compression_ratio=8,
    ).eval()  # fmt: skip
    for weight in vae.parameters():
        std = 0.1 if weight.ndim == 1 else weight[0].numel() ** -0.5
        torch.nn.init.normal_(weight, std=std)
    strides, tiling = (8, 32), Tiling()
    latents = torch.randn(1, 8, 2, 22, 34)
    tiled, whole = (
        torch.cat(list(PublicAutoencoder(vae, [0.0] * 8, [1.0] * 8, strides, tiling=t)
                       .decode_stream(latents, torch.float32, CPU)), dim=1)
        for t in (tiling, None)
    )  # fmt: skip
    assert whole.std() > 0.1
    assert not torch.equal(tiled, whole)
    assert 10 * math.log10(4 / (tiled - whole).square().mean().item()) >= 40


@torch.no_grad()
def test_the_streamed_wan_decoder_is_the_whole_one_bit_by_bit(reference_pipeline, tmp_path):
    reference = reference_pipeline()
    reference.save_pretrained(tmp_path)
    pipe = ours(tmp_path)
    latents = torch.randn(1, 4, 5, 8, 12)
    parts = list(pipe.decode(latents))
    assert [part.shape[1] for part in parts] == [1, 4, 4, 4, 4]
    mean, std = (
        torch.tensor(v)[None, :, None, None, None]
        for v in (reference.vae.config.latents_mean, reference.vae.config.latents_std)
    )
    wanted = reference.vae.decode(latents * std + mean).sample
    assert torch.equal(torch.cat(parts, dim=1).movedim(-1, 1), wanted)
