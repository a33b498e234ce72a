"""Everything the server and its workers can be told."""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longtake.config.limits import check_ranges
from longtake.errors import SettingError

STORE = "store.sqlite"
"""Name of the store in the data folder."""
LOCAL = "local"
"""Whose jobs are where no token is asked for."""
LEAST_TOKEN = 16
"""Characters of a token; shorter ones can be guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request, or one client, may take."""

    json_bytes: int = 256 * 1024
    """Largest body of JSON."""
    upload_bytes: int = 25 * 2**20
    """Largest upload."""
    idle_s: float = 60.0
    """Longest wait for the next part of a body."""
    header_s: float = 10.0
    """Longest wait for the head of a request."""
    waiting: int = 20_000
    """Jobs in the queue."""
    posts_per_s: float = 200.0
    """Requests that change something, of one token."""
    burst: int = 400
    """How many of them may come at once."""
    frames: int = 9601
    """Longest film; ten minutes."""
    pixels: int = 1280 * 720
    """Largest frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What runs the workers."""

    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or actors of a Ray cluster."""
    ray_address: str = ""
    """HOST:PORT of the cluster, or auto for one that runs here; empty: a Ray of one's own."""
    workers: int = 1
    """Workers, each with the model in memory."""
    threads: int = 0
    """Threads of each; 0: as many as there are cores, with Ray one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where they compute; with Ray each takes a GPU unless it is cpu or the cluster has none."""

    def __post_init__(self) -> None:
        """Refuse an address that nobody would ask."""
        if self.ray_address and self.engine != "ray":
            msg = f"--ray-address {self.ray_address} is for --engine ray, got {self.engine}"
            raise SettingError(msg)
        check_ranges(("workers", self.workers, 1, 1024), ("threads", self.threads, 0, 1024))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How the server runs."""

    data: Path
    """Folder of queue and films."""
    host: str = "127.0.0.1"
    """Address it listens on; any but loopback needs a token."""
    port: int = 8000
    """Port; 0 takes a free one."""
    model: str = "previz"
    """Preset by name, or a folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic."""
    engine: Literal["local", "ray"] = "local"
    """What runs the workers; see `EngineConfig`."""
    ray_address: str = ""
    """Where the Ray cluster is."""
    workers: int = 1
    """Workers that make films, each with the model in memory."""
    threads: int = 0
    """Threads of each; 0: as many as there are cores, with Ray one."""
    tokens: tuple[str, ...] = ()
    """Who may come in; each token has jobs of its own."""
    hosts: tuple[str, ...] = ()
    """Names it is reached by, beside its address."""
    origins: tuple[str, ...] = ()
    """Web pages that may use it, as https://example.org."""
    lease_s: float = 30.0
    """How long a worker holds a job without a sign of life."""
    keep_days: float = 7.0
    """How long a finished film is kept."""
    limits: Limits = Limits()
    """What a request may take."""

    def __post_init__(self) -> None:
        """Refuse what would leave the server open."""
        if not self.loopback and not self.tokens:
            msg = (
                f"listening on {self.host} lets others in, so a token is needed; "
                "write one into a file and give --token-file, or use --host 127.0.0.1"
            )
            raise SettingError(msg)
        for token in self.tokens:
            if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
                msg = (
                    f"a token has {LEAST_TOKEN} or more ASCII characters, got one of {len(token)}; "
                    "make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
                )
                raise SettingError(msg)
        check_ranges(
            ("port", self.port, 0, 65_535),
            ("keep_days", self.keep_days, 0.01, 36_500),
        )
        _ = self.engines

    @property
    def engines(self) -> EngineConfig:
        """What runs the workers.

        Raises:
            SettingError: a number out of range, or an address for another engine.
        """
        return EngineConfig(
            engine=self.engine,
            ray_address=self.ray_address,
            workers=self.workers,
            threads=self.threads,
            device=self.device,
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def names(self) -> frozenset[str]:
        """Host names that a request may ask for; a page of another name cannot reach in."""
        local = {"localhost", "127.0.0.1", "[::1]"} if self.loopback else set()
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({*local, own, *self.hosts})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a worker is told when it starts."""

    name: str
    """Its name in the store; no two processes share one."""
    data: str
    """The server's data folder."""
    model: str
    """Preset by name, or a folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic."""
    threads: int = 0
    """Threads of torch; 0: as many as there are cores."""
    lease_s: float = 30.0
    """How long it holds a job without a sign of life."""
    keep_s: int = 7 * 86_400
    """How long a finished film is kept."""
    poll_s: float = 0.05
    """Time between two looks into an empty queue."""


class Doorkeeper:
    """Knows tokens by their digests alone."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        """Keep the digests."""
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def owner(self, header: str | None) -> str | None:
        """Whose request this is; None if it may not come in. Takes the same time for any."""
        if not self._digests:
            return LOCAL
        scheme, _, token = (header or "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        found = None
        for digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = digest.hex()[:16]
        return found if scheme.lower() == "bearer" else None
