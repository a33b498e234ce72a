"""`longtake serve`: films over HTTP."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtake.cli.options import EngineOptions, WholeNumber
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
class KeepingOptions:
    """What is kept."""

    data: Path = Path("longtake-data")
    """Folder of the queue and the films."""
    keep_days: float = 7.0
    """How long a finished film is kept."""


_DOOR, _WORK, _KEEPING = DoorOptions(), EngineOptions(), KeepingOptions()


def serve(
    *,
    door: DoorOptions = _DOOR,
    work: EngineOptions = _WORK,
    keeping: KeepingOptions = _KEEPING,
) -> None:
    """Make films for whoever asks over HTTP.

    Jobs survive whatever happens to the server: they go on when it is started again with the
    same data folder.

    Args:
        door: Who reaches it.
        work: What makes the films.
        keeping: Where they are, and how long.
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
        data=keeping.data.absolute(),
        host=door.host,
        port=door.port,
        model=work.model,
        device=work.device,
        precision=work.precision,
        engine=work.engine,
        ray_address=work.ray_address,
        workers=work.workers,
        threads=work.threads,
        tokens=tokens,
        hosts=tuple(name.lower() for name in door.allow_host),
        origins=door.allow_origin,
        keep_days=keeping.keep_days,
    )
    run.serve(config)
