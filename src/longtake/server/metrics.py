"""Numbers for Prometheus; never a prompt, a token, an id or a path of the disk."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})


class Metrics:
    """Counted by one server, in a registry of its own."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._answers = Counter("longtake_http_requests", "Answers", labels, registry=self.registry)
        self._seconds = Histogram(
            "longtake_http_seconds", "Time to the head of an answer", ["method", "route"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._jobs = Gauge("longtake_jobs", "Jobs by state", ["status"], registry=self.registry)
        self.listeners = Gauge(
            "longtake_listeners", "Open streams of events", registry=self.registry
        )
        self._ready = Gauge(
            "longtake_workers_ready", "Workers that can take a job", registry=self.registry
        )
        self._restarts = Gauge(
            "longtake_worker_restarts", "Workers started after one ended", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; routes by their pattern, so that no id becomes a label."""
        method = method if method in _METHODS else "other"
        self._answers.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(self, counts: Callable[[], Mapping[str, int]], ready: int, restarts: int) -> bytes:
        """The text that Prometheus reads."""
        for status, number in counts().items():
            self._jobs.labels(status).set(number)
        self._ready.set(ready)
        self._restarts.set(restarts)
        return generate_latest(self.registry)
