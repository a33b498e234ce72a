"""Peak memory and time of a full-size public model with random weights, part by part.

python benchmarks/bench_official.py --size 480p --offload block [--steps 2] [--folder DIR]

Makes a folder of the public layout with random weights of the published sizes (13 GB; kept if
--folder names one), then runs it as `longtake generate` would, and prints one JSON line. Without
diffusers, whose VAEs are not ours, the VAE is left out and the line says so.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import nn

from longtake.bench.run import free
from longtake.checkpoints import save_tensors
from longtake.checkpoints.public_config import read_transformer_config
from longtake.model import Transformer
from longtake.official.folder import read_model
from longtake.official.pipeline import OfficialPipeline, Offload, Running
from longtake.official.plan import Plan, predict
from longtake.official.settings import OfficialConfig
from longtake.official.transformer import save_transformer
from longtake.pipeline.precision import Arithmetic

PROMPT = "a lighthouse on a cliff at dusk, waves below, the camera rises slowly"
SIZES = {"480p": (832, 480), "720p": (1280, 704), "tiny": (96, 64)}
GEMMA = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256_000,
}  # fmt: skip
TINY_GEMMA = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 200,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;-"
Result = TypeVar("Result")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=tuple(SIZES), default="480p")
    parser.add_argument("--offload", choices=get_args(Offload), default="text")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="bf16")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        folder = arguments.folder or Path(temp)
        if not (folder / "model_index.json").exists():
            make_folder(folder, arguments.size)
        print(json.dumps(measure(folder, arguments)))


@torch.no_grad()
def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Each stage's seconds and peak, in the order of a film."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    running = Running(device=device, dtype=DTYPES[arguments.precision], offload=arguments.offload)
    width, height = SIZES[arguments.size]
    diffusers = find_spec("diffusers") is not None
    settings = OfficialConfig(
        width=width,
        height=height,
        frames=arguments.frames,
        steps=arguments.steps,
        instruction="video" if diffusers else "none",
    )
    pipe = OfficialPipeline(read_model(folder), running)
    planned = predict(
        pipe.model, settings, Arithmetic(dtype=running.dtype), device, offload=running.offload,
        memory_bytes=2**50,
    )  # fmt: skip
    free(device)
    stages: dict[str, dict[str, float]] = {}
    condition, _ = timed(stages, "text", lambda: pipe.condition(PROMPT, settings))
    walk = pipe.denoise(pipe.noise(settings), condition, settings)
    latents = timed(stages, "first step, with loading", lambda: next(walk))
    if arguments.steps > 1:
        *_, latents = timed(stages, "further steps", lambda: list(walk))
        stages["further steps"]["a_step_s"] = round(
            stages["further steps"]["seconds"] / (arguments.steps - 1), 4
        )
    if diffusers:
        frames = timed(
            stages, "decode", lambda: sum(part.shape[1] for part in pipe.decode(latents))
        )
        assert frames >= arguments.frames
        timed(stages, "decode, loaded", lambda: sum(len(part) for part in pipe.decode(latents)))
    return {
        **compared(planned, stages, arguments.steps),
        "what": f"public model, random weights, {width}x{height}x{arguments.frames}",
        "offload": arguments.offload,
        "precision": arguments.precision,
        "vae": pipe.model.vae.name if diffusers else "left out: no diffusers here",
        "stages": stages,
        "peak_gib": max(stage["peak_gib"] for stage in stages.values()),
        "reserved_gib": max(stage["reserved_gib"] for stage in stages.values()),
        "processor": torch.cuda.get_device_name() if cuda else "CPU",
        "torch": torch.__version__,
    }


def compared(
    planned: Plan, stages: dict[str, dict[str, float]], steps: int
) -> dict[str, dict[str, float | None]]:
    """The plan beside what happened: all steps and the decode; loading is in neither."""
    a_step_s = stages["further steps"]["a_step_s"] if steps > 1 else math.nan
    happened_s = steps * a_step_s + stages.get("decode, loaded", {"seconds": math.nan})["seconds"]
    peak = max(stage["peak_gib"] for stage in stages.values())
    planned_s, planned_gib = planned.seconds or math.nan, planned.device_bytes / 2**30
    return {
        "seconds": {"planned": round(planned_s, 3), "happened": round(happened_s, 3),
                    "planned_over_happened": round(planned_s / happened_s, 3)},
        "most_gib": {"planned": round(planned_gib, 3), "happened": peak,
                     "planned_over_happened": round(planned_gib / peak, 4) if peak else None},
    }  # fmt: skip


def timed(stages: dict[str, dict[str, float]], name: str, work: Callable[[], Result]) -> Result:
    """The work's result; its seconds and peak go to the stages."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = work()
    if cuda:
        torch.cuda.synchronize()
    stages[name] = {
        "seconds": round(time.perf_counter() - start, 3),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3) if cuda else 0.0,
        "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3) if cuda else 0.0,
    }
    return result


def make_folder(folder: Path, size: str) -> None:
    """A public model's folder with random weights."""
    large, tiny = size == "720p", size == "tiny"
    config: dict[str, Any] = {"_class_name": "SanaVideoTransformer3DModel", "mlp_ratio": 3.0}
    if large:
        config |= {"in_channels": 128, "out_channels": 128, "patch_size": [1, 1, 1]}
    if tiny:
        config |= {
            "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16,
            "num_cross_attention_heads": 2, "cross_attention_head_dim": 16,
            "cross_attention_dim": 32, "caption_channels": 32,
        }  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        model = Transformer(read_transformer_config(config, "config.json"))
    save_transformer(randomised(model, device), folder / "transformer")
    make_text_encoder(folder, TINY_GEMMA if tiny else GEMMA, device)
    make_vae(folder / "vae", device, large=large)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": True,
                "flow_shift": 8.0,
            }
        )
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "SanaVideoPipeline"}))


def make_text_encoder(folder: Path, shape: dict[str, int], device: torch.device) -> None:
    import transformers

    config = transformers.Gemma2Config(**shape)
    with torch.device("meta"):
        encoder = transformers.Gemma2Model(config)
    randomised(encoder, device).save_pretrained(folder / "text_encoder")
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *LETTERS]
    transformers.GemmaTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], add_bos_token=True
    ).save_pretrained(folder / "tokenizer")


def make_vae(folder: Path, device: torch.device, *, large: bool) -> None:
    """The VAE's config, and its weights where diffusers can say which they are."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"_class_name": "AutoencoderKLWan"}
    if large:
        config = {
            "_class_name": "AutoencoderKLLTX2Video",
            "decoder_causal": False,
            "spatial_compression_ratio": 32,
            "temporal_compression_ratio": 8,
        }
    (folder / "config.json").write_text(json.dumps(config))
    if find_spec("diffusers"):
        import diffusers

        settings = {key: value for key, value in config.items() if key != "_class_name"}
        with torch.device("meta"):
            vae = getattr(diffusers, config["_class_name"])(**settings)
        tensors = randomised(vae, device).state_dict()
        save_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, shard_bytes=5 * 2**30)


def randomised(module: nn.Module, device: torch.device) -> nn.Module:
    """Random bf16 weights of a size that keeps values about where trained ones do."""
    module = module.to(torch.bfloat16).to_empty(device=device)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.5 * weight[0].numel() ** -0.5)
            else:
                weight.fill_(1.0 if "norm" in name and "bias" not in name else 0.0)
        for name, buffer in module.named_buffers():
            buffer.fill_(1.0 if name.endswith("std") else 0.0)
    return module


if __name__ == "__main__":
    main()
