"""`longtake serve`: films over HTTP."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtake.cli.options import WholeNumber
from longtake.errors import CannotHere

TOKENS = "LONGTAKE_TOKENS"
"""Environment variable with tokens, separated by blanks, beside those of --token-file."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoorOptions:
    """Who reaches the server."""

    port: WholeNumber = 8000
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs a token."""
    token_file: Path | None = None
    """File of tokens, one a line; each has films of its own. Also: LONGTAKE_TOKENS."""
    allow_host: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """Name by which the server is reached, beside its address; once or more."""
    allow_origin: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """Web page that may use it, as https://example.org; once or more."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """What makes the films."""

    data: Path = Path("longtake-data")
    """Folder of the queue and the films."""
    model: str = "previz"
    """Model by name, or a folder with a model.json."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; auto takes bf16 where the processor has it."""
    workers: WholeNumber = 1
    """Processes that make films, each with the model in memory."""
    threads: WholeNumber = 0
    """Threads of each worker; 0: as many as there are cores."""
    keep_days: float = 7.0
    """How long a finished film is kept."""


_DOOR, _WORK = DoorOptions(), WorkOptions()


def serve(*, door: DoorOptions = _DOOR, work: WorkOptions = _WORK) -> None:
    """Make films for whoever asks over HTTP.

    Jobs survive whatever happens to the server: they go on when it is started again with the
    same data folder.

    Args:
        door: Who reaches it.
        work: What makes the films.
    """
    try:
        from longtake.server import run
    except ModuleNotFoundError as error:
        msg = f"the server needs {error.name}; run: pip install 'longtake[serve]'"
        raise CannotHere(msg) from error
    from longtake.server.settings import ServeConfig

    tokens = tuple(os.environ.pop(TOKENS, "").split())
    if door.token_file is not None:
        tokens += run.read_tokens(door.token_file)
    config = ServeConfig(
        data=work.data.absolute(),
        host=door.host,
        port=door.port,
        model=work.model,
        device=work.device,
        precision=work.precision,
        workers=work.workers,
        threads=work.threads,
        tokens=tokens,
        hosts=tuple(name.lower() for name in door.allow_host),
        origins=door.allow_origin,
        keep_days=work.keep_days,
    )
    run.serve(config)
