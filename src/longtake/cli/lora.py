"""`longtake lora`: what is done with LoRA files beside filming with them."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from longtake.cli.finetune import refuse_public_model
from longtake.cli.options import uses_of
from longtake.cli.progress import tell
from longtake.errors import OutputError, SettingError
from longtake.presets import MODEL_FILE, find
from longtake.storage import check_writable, output_errors

lora = App(name="lora", help="Merge LoRAs into a model.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """What is merged into, and where it goes."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    """Folder of the new model."""
    model: str = "previz"
    """Model by name, or a folder with a model.json."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def merge(*files: str, options: MergeOptions) -> None:
    """Make a model of its own out of a model and the LoRAs over it.

    Args:
        files: LoRAs as FILE or FILE:STRENGTH.
        options: The model.
    """
    started = time.perf_counter()
    from longtake.checkpoints import content_hash
    from longtake.pipeline import load
    from longtake.recipes.weights import export_model

    if not files:
        msg = "the LoRA is missing; try: longtake lora merge lora.safetensors --out mine"
        raise SettingError(msg)
    refuse_public_model(options.model, "lora merge")
    find(options.model)
    if (options.out / MODEL_FILE).exists():
        msg = f"{options.out} holds a model already; delete it, or choose another with --out"
        raise OutputError(msg)
    pipe = load(options.model, device="cpu", precision="fp32", loras=uses_of(files))
    with output_errors(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    check_writable(options.out / MODEL_FILE)
    export_model(options.out, (pipe.text, pipe.transformer, pipe.autoencoder), pipe.config)
    made = content_hash(options.out)
    if options.as_json:
        report = {
            "folder": str(options.out),
            "model_hash": made,
            "loras": [{"file": u.file, "strength": u.strength} for u in pipe.loras],
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
        tell(json.dumps(report), done="the model is finished")
    elif not options.quiet:
        tell(f"{options.out}: a model, hash {made[:16]}", done="the model is finished")


# Named here, or its usage line would show how Python was started.
lora.command(App(name="merge", default_command=merge))
