"""Public weights by name: at a pinned revision, offline once they are here, sizes told first."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import CannotHere, ModelError

PATTERNS = (
    "model_index.json",
    *(f"{part}/*.json" for part in ("transformer", "vae", "text_encoder", "tokenizer")),
    "scheduler/*.json",
    *(f"{part}/*.safetensors" for part in ("transformer", "vae", "text_encoder")),
    "tokenizer/tokenizer.model",
)
"""What is fetched: nothing that could hold code."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """What is about to be fetched."""

    repository: str
    commit: str
    files: tuple[tuple[str, int], ...]
    """Names and bytes."""
    licence: str
    """What the repository says of its own; empty if nothing."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)


def fetch(
    repository: str,
    revision: str | None,
    *,
    complete: Callable[[Path], bool],
    tell: Callable[[Fetching], None],
    cache: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of a repository's files, fetched if they are not all here.

    Args:
        repository: As `owner/name`.
        revision: Commit, tag or branch; None: the newest.
        complete: True for a folder that lacks nothing.
        tell: Hears what is about to be fetched, before the first byte.
        cache: Where files are kept; None: where the hub's own library keeps them.
        endpoint: The hub's address; None: its own.

    Raises:
        ModelError: no such repository or revision, or not open to this user.
        CannotHere: not here and no way to fetch it.
    """
    hub = _library()
    place: dict[str, Any] = {
        "repo_id": repository,
        "cache_dir": cache,
        "allow_patterns": list(PATTERNS),
    }
    try:
        here = hub.snapshot_download(revision=revision, local_files_only=True, **place)
        if complete(Path(here)):
            return Path(here)
    except hub.errors.LocalEntryNotFoundError:
        pass
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(
            repository, revision=revision, files_metadata=True
        )
        tell(_fetching(hub, repository, info))
        return Path(hub.snapshot_download(revision=info.sha, endpoint=endpoint, **place))
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        msg = f"no model {repository}{at} on the hub, or it wants a login (hf auth login)"
        raise ModelError(msg) from error
    except (hub.errors.HTTPError, hub.errors.OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        msg = (
            f"{repository} is not here in full and cannot be fetched ({reason}); "
            "go online, or give the folder it lies in"
        )
        raise CannotHere(msg) from error


def _fetching(hub: Any, repository: str, info: Any) -> Fetching:  # noqa: ANN401 - the library's own
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = hub.utils.filter_repo_objects(sizes, allow_patterns=list(PATTERNS))
    files = tuple(sorted((name, sizes[name]) for name in wanted))
    licence = (info.card_data or {}).get("license") or ""
    return Fetching(repository, info.sha, files, str(licence))


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        msg = "models by name need huggingface_hub: pip install 'longtake[official]'"
        raise CannotHere(msg) from error
