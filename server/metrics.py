"""What the server has done, as Prometheus metrics, and the page of all metrics (`/metrics`).

`python -m server.metrics` prints the table of docs/metrics.md.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import prometheus_client
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from engine import metrics as engine
from engine.metrics import Family
from registry.progress import Traffic

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each series

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "unknown"

REQUESTS = Family(
    "counter",
    "pronk_http_requests_total",
    "requests that have ended; `route` is a path of [routes](routes.md), or `unknown`; `status` 0: the client left "
    "before there was an answer",
    ("route", "method", "status"),
)
DURATION = Family(
    "histogram",
    "pronk_http_request_duration_seconds",
    "from a request's headers to the last byte of its answer",
    ("route",),
)
IN_PROGRESS = Family("gauge", "pronk_http_requests_in_progress", "requests that are being answered")
ERRORS = Family(
    "counter",
    "pronk_errors_total",
    "errors that clients were told, before an answer or in it; `kind` is the name of an exception, `Defect` for one "
    "that nobody expects",
    ("kind",),
)
TRANSFERS = Family(
    "counter",
    "pronk_transfers_total",
    "pulls, pushes and creations; `result`: `success`, `failed` or `cancelled`",
    ("verb", "result"),
)
TRAFFIC = Family(
    "counter",
    "pronk_transfer_bytes_total",
    "bytes of models from and to registries; `direction`: `received` or `sent`",
    ("direction",),
)
BUILD = Family(
    "gauge", "pronk_build_info", "1; the labels are versions", ("version", "llama_cpp_python", "python", "machine")
)
_OWN = (REQUESTS, DURATION, IN_PROGRESS, ERRORS, TRANSFERS, TRAFFIC, BUILD)
FAMILIES = (*_OWN, *engine.FAMILIES)


class ServerMetrics:
    """Counts requests, errors and transfers; any thread may call it."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        registry = self._registry = prometheus_client.CollectorRegistry()
        self._traffic = traffic or Traffic()
        self._requests = REQUESTS.counter(registry)
        self._duration = DURATION.histogram(registry)
        self._in_progress = IN_PROGRESS.gauge(registry)
        self._errors = ERRORS.counter(registry)
        self._transfers = TRANSFERS.counter(registry)
        BUILD.gauge(registry).labels(*_versions()).set(1)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

    @contextmanager
    def in_progress(self) -> Iterator[None]:
        """While a request is being answered."""
        with self._in_progress.track_inprogress():
            yield

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request has been answered. `route` is a template of the path, "" for an unknown path."""
        known = method if method in METHODS else UNKNOWN
        self._requests.labels(route or UNKNOWN, known, str(status)).inc()
        self._duration.labels(route or UNKNOWN).observe(seconds)

    def refused(self, status: int) -> None:
        """Something was no request, and was answered with this status."""
        self._requests.labels(UNKNOWN, UNKNOWN, str(status)).inc()

    def error(self, kind: str) -> None:
        """A client has been told of an error, whose kind is the name of an exception."""
        self._errors.labels(kind).inc()

    def transfer_ended(self, verb: str, result: str) -> None:
        """A pull, a push or a creation has ended."""
        self._transfers.labels(verb, result).inc()

    def page(self, others: Iterable[Metric], accept: str) -> tuple[bytes, str]:
        """All metrics and the `others` as text, and its media type, by a request's `Accept`. For a thread."""
        traffic = {("received",): self._traffic.received, ("sent",): self._traffic.sent}
        encode, media_type = choose_encoder(accept)
        return encode(_Collected([*self._registry.collect(), TRAFFIC.now(traffic), *others])), media_type


class _Collected:
    """Metrics as a collector."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


def _versions() -> tuple[str, str, str, str]:
    """The values of the labels of BUILD."""
    return _version("pronk"), _version("llama-cpp-python"), platform.python_version(), platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN


def markdown() -> str:
    """The table of docs/metrics.md."""
    rows = (
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.meaning} |"
        for each in FAMILIES
    )
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown())
