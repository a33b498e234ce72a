"""`longtake train sana-video-2b`: a stage of the public 2B model, or what it would take."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from longtake.cli.memory import memory_errors
from longtake.cli.progress import tell
from longtake.errors import SettingError

if TYPE_CHECKING:
    from longtake.cli.train import SanaOptions, TrainOptions
    from longtake.recipes.sana_plan import StagePlan
    from longtake.recipes.sana_video import SanaStage

GIB = 2**30
LORA_RATE, LORA_WARMUP = 1e-4, 20
"""Thin branches learn at a higher rate than weights; B begins at zero."""


def train_sana(options: "TrainOptions", sana: "SanaOptions") -> None:
    """Train one stage on all GPUs that torchrun began with, or tell what the stages take.

    Raises:
        SettingError: no stage, no clips or no folder named.
        CannotHere: not enough memory.
    """
    from longtake.recipes.sana_video import StageName, stage_named

    names = get_args(StageName)
    if sana.dry_run:
        stages = [stage_named(n) for n in names if options.stage in ("all", n)]
        _tell_plans([_asked(stage, sana) for stage in stages], options)
        return
    if options.stage not in names:
        msg = f"this recipe runs one stage at a time; name it: --stage {', '.join(names)}"
        raise SettingError(msg)
    if sana.data is None:
        msg = "--data is missing: a folder of encoded clips; docs/guides/several_gpus.md tells how"
        raise SettingError(msg)
    _run(_asked(stage_named(options.stage), sana), sana.data, options)


def _asked(stage: "SanaStage", sana: "SanaOptions") -> "SanaStage":
    """The stage with what the command line says of it."""
    train = replace(
        stage.train,
        steps=sana.steps or stage.train.steps,
        batch=sana.batch or stage.train.batch,
        compile=sana.compile,
        keep_layers=sana.keep_layers or 0,
    )
    if sana.lora is not None:
        if sana.lora < 1:
            msg = (
                f"--lora wants a rank of at least 1, got {sana.lora}; leave it out for all weights"
            )
            raise SettingError(msg)
        train = replace(train, lora=sana.lora, learning_rate=LORA_RATE, warmup=LORA_WARMUP)
    return replace(stage, train=train)


def _run(stage: "SanaStage", data: Path, options: "TrainOptions") -> None:
    from longtake.cli.train import folder_of, log_lines
    from longtake.parallel import leave
    from longtake.parallel.sharding import join_sharded
    from longtake.pipeline import device_of
    from longtake.recipes.sana_video import run_stage

    started = time.perf_counter()
    out = folder_of(options)
    workers, device = join_sharded(device_of(options.device))
    quiet = options.quiet or not workers.first
    with log_lines(quiet=quiet), memory_errors("more GPUs, or smaller clips"):
        run_stage(stage, data, out, start=options.start, workers=workers, device=device)
    leave()
    if not workers.first:
        return
    report = {
        "folder": str(out),
        "stage": stage.name,
        "steps": stage.train.steps,
        "gpus": workers.size,
        "elapsed_s": round(time.perf_counter() - started, 3),
    }
    if options.as_json:
        tell(json.dumps(report), done="the model is finished")
    elif not options.quiet:
        tell(
            f"{out}: stage {stage.name}, {stage.train.steps} steps on {workers.size} GPUs, "
            f"took {report['elapsed_s']:.0f} s",
            done="the model is finished",
        )


def _tell_plans(stages: "list[SanaStage]", options: "TrainOptions") -> None:
    from longtake.recipes.sana_plan import TFLOPS, plan_stage

    plans = {stage.name: plan_stage(stage) for stage in stages}
    if options.as_json:
        told = {name: [asdict(plan) for plan in made] for name, made in plans.items()}
        tell(json.dumps({"assumed_tflops": TFLOPS, "stages": told}))
        return
    for stage in stages:
        train = stage.train
        tell(
            f"{stage.name}: {stage.what}; {stage.width}x{stage.height}x{stage.frames}, "
            f"{train.steps:,} steps of {train.batch} clips"
        )
        tell("  GPUs  clips each  GiB each  a step  sent each  whole stage")
        for plan in plans[stage.name]:
            tell(_row(plan))
    tell(
        f"memory is counted; time is counted work at {TFLOPS:g} TFLOP/s a GPU, which is assumed; "
        "steps and batch were never published and are ours"
    )


def _row(plan: "StagePlan") -> str:
    return (
        f"  {plan.gpus:>4}  {plan.clips:>10}  {plan.device_bytes / GIB:>8.1f}  "
        f"{plan.step_s:>5.2f} s  {plan.moved_bytes / GIB:>5.1f} GiB  {plan.hours:>7.1f} h"
    )
