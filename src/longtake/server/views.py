"""Jobs as clients see them."""

from longtake.config import FPS
from longtake.server.answers import Told, Video
from longtake.server.jobs import Job


def video(job: Job) -> Video:
    """A job as its JSON."""
    settings, progress = job.request["settings"], job.progress
    result = job.result or {}
    done = job.status == "completed"
    return Video(
        id=job.id,
        status=job.status,
        progress=100 if done else progress.get("progress", 0),
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.finished_at if done else None,
        expires_at=job.expires_at,
        error=dict(job.error) if job.error else None,
        model=job.request["model"],
        prompt=job.request["prompt"],
        parent_id=job.request.get("parent") or None,
        from_block=job.request.get("turn") or None,
        scene=job.request.get("scene") or None,
        shot=job.request.get("shot") or None,
        prompt_at=[
            Told(at_s=cue["at_s"], text=cue["text"], seed=cue.get("seed"))
            for cue in job.request["cues"]
        ],
        begins_with_picture=job.request["picture"],
        settings=dict(settings),
        seconds=f"{(settings['frames'] - 1) / FPS:g}",
        size=f"{settings['width']}x{settings['height']}",
        frames=settings["frames"],
        seed=settings["seed"],
        attempt=job.attempt,
        stage=progress.get("stage"),
        block=progress.get("block"),
        blocks_total=progress.get("blocks_total"),
        step=progress.get("step"),
        steps_total=progress.get("steps_total"),
        eta_s=None if job.status != "in_progress" else progress.get("eta_s"),
        frames_ready=settings["frames"] if done else progress.get("frames_ready", 0),
        notices=list(result.get("notices", ())),
        resumable=bool(result.get("state")),
        peak_memory_mb=result.get("peak_memory_mb"),
        inference_time_s=result.get("inference_time_s"),
        sha256=result.get("sha256"),
    )
