"""What the engine has done, as Prometheus metrics. Counted where it happens, once for each answer, load and unload.

Each metric is declared once, as a `Family`; docs/metrics.md has them all.
"""

from __future__ import annotations

from collections import Counter as Sums
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from engine.stats import Stats
from engine.unloading import UnloadReason

MOST_MODELS = 100  # that have series of their own: names come from clients that may create models
OTHER = "other"
"""The label of further models. No model has this name: those of models end with a tag."""
TO_MINUTES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
"""Bounds of histograms, in seconds: of whole requests, the longest of which take minutes."""
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
T = TypeVar("T")
Labelled = Mapping[Any, T]
"""Values by their labels, a tuple of strings."""
LoadResult = Literal["ok", "failed", "out_of_memory", "aborted"]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name with the unit, what it means, its labels, and the bounds of a histogram."""

    kind: Literal["counter", "gauge", "histogram", "summary"]
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = TO_MINUTES

    def counter(self, registry: prometheus_client.CollectorRegistry) -> prometheus_client.Counter:
        """A counter that is kept in `registry`."""
        return prometheus_client.Counter(self.name, self.meaning, self.labels, registry=registry)

    def gauge(self, registry: prometheus_client.CollectorRegistry) -> prometheus_client.Gauge:
        """A gauge that is kept in `registry`."""
        return prometheus_client.Gauge(self.name, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: prometheus_client.CollectorRegistry) -> prometheus_client.Histogram:
        """A histogram that is kept in `registry`."""
        return prometheus_client.Histogram(self.name, self.meaning, self.labels, registry=registry, buckets=self.bounds)

    def sums(self, values: Labelled[tuple[int, float]]) -> Metric:
        """A summary as it is now: number and sum for each combination of labels."""
        metric = SummaryMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, (number, total) in values.items():
            metric.add_metric(labels, number, total)
        return metric

    def now(self, values: Labelled[float] | float) -> Metric:
        """A counter or a gauge as it is now: a value for each combination of labels, or one if it has none."""
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric: CounterMetricFamily | GaugeMetricFamily = family(self.name, self.meaning, labels=self.labels)
        for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
            metric.add_metric(labels, value)
        return metric


_MODEL = ("model",)
ANSWERS = Family(
    "counter",
    "pronk_answers_total",
    "answers that have ended; `end`: `stop`, `length`, `tool_calls`, `cancelled` or `failed`",
    ("model", "end"),
)
PROMPT_TOKENS = Family(
    "counter",
    "pronk_prompt_tokens_total",
    "tokens of prompts, cached ones too, and of texts that were embedded or ranked; not where answers were cancelled",
    _MODEL,
)
GENERATION_TOKENS = Family(
    "counter",
    "pronk_generation_tokens_total",
    "tokens of answers; of cancelled and failed ones those that had arrived",
    _MODEL,
)
QUERIED_TOKENS = Family(
    "counter",
    "pronk_prompt_cache_queried_tokens_total",
    "tokens of prompts that could have been cached: those of all answers",
    _MODEL,
)
HIT_TOKENS = Family(
    "counter",
    "pronk_prompt_cache_hit_tokens_total",
    "those of them that were, by `tier`: `stream` (the KV cache), `memory` (`PRONK_PROMPT_CACHE_RAM`) or `disk` "
    "(`PRONK_PROMPT_CACHE_DISK`)",
    ("model", "tier"),
)
QUEUE_TIME = Family(
    "histogram",
    "pronk_request_queue_time_seconds",
    "how long an answer waited for its model, the load included, and then for a place in it",
    _MODEL,
)
FIRST_TOKEN = Family(
    "histogram", "pronk_time_to_first_token_seconds", "from the request to the first text of its answer", _MODEL
)
TOKEN_TIME = Family(
    "histogram",
    "pronk_time_per_output_token_seconds",
    "seconds for each token of an answer after its first one: their mean, once for each answer",
    _MODEL,
    PER_TOKEN,
)
LATENCY = Family("histogram", "pronk_e2e_request_latency_seconds", "from the request to the end of its answer", _MODEL)
LOADS = Family(
    "histogram",
    "pronk_model_load_seconds",
    "loads of models; `result`: `ok`, `failed`, `out_of_memory` (then it may be tried again) or `aborted`",
    ("model", "result"),
)
UNLOADS = Family(
    "counter",
    "pronk_model_unloads_total",
    "models whose process has ended; `reason`: "
    + ", ".join(f"`{reason.label}` ({reason.text})" for reason in UnloadReason),
    ("model", "reason"),
)
LOADED = Family("gauge", "pronk_models_loaded", "loaded models")
LOADING = Family("gauge", "pronk_models_loading", "models that are being loaded")
QUEUE = Family("gauge", "pronk_load_queue_requests", "requests that wait for their model")
QUEUE_LIMIT = Family("gauge", "pronk_load_queue_limit", "`OLLAMA_MAX_QUEUE`: more get a 503")
RUNNING = Family("gauge", "pronk_num_requests_running", "requests that run in a model", _MODEL)
WAITING = Family("gauge", "pronk_num_requests_waiting", "requests that wait for a place in their loaded model", _MODEL)
BATCH = Family("gauge", "pronk_batch_size", "answers that went on together in a model's last pass", _MODEL)
BATCHES = Family(
    "summary", "pronk_decode_batch_size", "how many answers went on together, in all passes in which some did", _MODEL
)
COMPUTED = Family(
    "counter",
    "pronk_computed_tokens_total",
    "tokens computed, of running and cancelled requests too; `phase`: `prefill` (without cached ones) or `decode`",
    ("model", "phase"),
)
DRAFTED = Family(
    "counter",
    "pronk_spec_decode_num_draft_tokens_total",
    "tokens that were drafted from what a text held already, and verified",
    _MODEL,
)
ACCEPTED = Family("counter", "pronk_spec_decode_num_accepted_tokens_total", "those of them that were right", _MODEL)
CELLS = Family("gauge", "pronk_kv_cache_cells", "tokens for which a model's KV cache has room", _MODEL)
USED_CELLS = Family("gauge", "pronk_kv_cache_used_cells", "those of them that are taken", _MODEL)
CACHED = Family("gauge", "pronk_prompt_cache_tokens", "tokens of finished answers that others can begin with", _MODEL)
DISK_BYTES = Family(
    "gauge", "pronk_prompt_cache_disk_bytes", "what `PRONK_PROMPT_CACHE_DISK` has of all models, loaded or not"
)
OF_STATS = {
    RUNNING: "running",
    WAITING: "waiting",
    BATCH: "batch",
    CELLS: "cells",
    USED_CELLS: "cells_used",
    CACHED: "cached_tokens",
}
"""By metric: the field of `Stats`."""
PLANNED_BYTES = Family(
    "gauge", "pronk_model_planned_memory_bytes", "what was planned for a model on a device", ("model", "device")
)
REAL_BYTES = Family(
    "gauge", "pronk_model_memory_bytes", "what it takes there, by what llama.cpp has allocated", ("model", "device")
)
RESIDENT_BYTES = Family(
    "gauge",
    "pronk_model_resident_memory_bytes",
    "what a model's process has in this machine's memory, mapped files included",
    _MODEL,
)
DEVICE_BYTES = Family(
    "gauge", "pronk_device_memory_bytes", "memory of a device: `cpu` or llama.cpp's name of a GPU", ("device", "name")
)
DEVICE_FREE_BYTES = Family("gauge", "pronk_device_memory_free_bytes", "what of it is free", ("device", "name"))

FAMILIES = tuple(value for value in globals().values() if isinstance(value, Family))


class HasStats(Protocol):
    """A model's process: `stats` are the last that it has told, and never go back."""

    stats: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An ended answer. Times are in seconds, None where it has not come so far.

    `prompt_tokens` are 0 unless the answer is complete. `tier` is the part of the prompt cache that had the
    `cached_tokens`.
    """

    end: str
    latency: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tier: str = ""
    tokens: int = 0
    first_token: float | None = None
    queued: float | None = None
    writing: float | None = None


class EngineMetrics:
    """Counts what the engine does, by models' names; call it on the event loop. `kept` may be read in any thread."""

    def __init__(self) -> None:
        registry = self._registry = prometheus_client.CollectorRegistry()
        self._answers = ANSWERS.counter(registry)
        self._prompt_tokens = PROMPT_TOKENS.counter(registry)
        self._generation_tokens = GENERATION_TOKENS.counter(registry)
        self._queried_tokens = QUERIED_TOKENS.counter(registry)
        self._hit_tokens = HIT_TOKENS.counter(registry)
        self._queue_time = QUEUE_TIME.histogram(registry)
        self._first_token = FIRST_TOKEN.histogram(registry)
        self._token_time = TOKEN_TIME.histogram(registry)
        self._latency = LATENCY.histogram(registry)
        self._loads = LOADS.histogram(registry)
        self._unloads = UNLOADS.counter(registry)
        self._models: set[str] = set()
        self._processes: dict[HasStats, str] = {}
        self._ended: dict[str, Sums[str]] = {}  # by model: what ended processes had computed

    def label(self, model: str) -> str:
        """The label of a stored model: its name, or "other" when there are many."""
        if model not in self._models:
            if len(self._models) >= MOST_MODELS:
                return OTHER
            self._models.add(model)
        return model

    def answered(self, model: str, answer: Answered) -> None:
        """An answer has ended."""
        label = self.label(model)
        self._answers.labels(label, answer.end).inc()
        self._prompt_tokens.labels(label).inc(answer.prompt_tokens)
        self._queried_tokens.labels(label).inc(answer.prompt_tokens)
        self._generation_tokens.labels(label).inc(answer.tokens)
        if answer.cached_tokens:
            self._hit_tokens.labels(label, answer.tier).inc(answer.cached_tokens)
        self._latency.labels(label).observe(answer.latency)
        if answer.first_token is not None:
            self._first_token.labels(label).observe(answer.first_token)
        if answer.queued is not None:
            self._queue_time.labels(label).observe(answer.queued)
        if answer.writing is not None and answer.tokens > 1:
            self._token_time.labels(label).observe(answer.writing / (answer.tokens - 1))

    def read(self, model: str, tokens: int) -> None:
        """Texts of so many tokens have been embedded or ranked."""
        self._prompt_tokens.labels(self.label(model)).inc(tokens)

    def load_ended(self, model: str, result: LoadResult, seconds: float) -> None:
        """A load has ended, one way or the other."""
        self._loads.labels(self.label(model), result).observe(seconds)

    def unloaded(self, model: str, reason: UnloadReason) -> None:
        """A model's process has ended."""
        self._unloads.labels(self.label(model), reason.label).inc()

    @contextmanager
    def counting(self, model: str, process: HasStats) -> Iterator[None]:
        """Count what a process computes; afterwards its last report goes on counting."""
        label = self._processes[process] = self.label(model)
        yield
        del self._processes[process]
        self._ended.setdefault(label, Sums()).update(_computed(process.stats))

    def computed(self) -> list[Metric]:
        """What models' processes have computed since the start of the server."""
        sums = {label: Sums(ended) for label, ended in self._ended.items()}
        for process, label in self._processes.items():
            sums.setdefault(label, Sums()).update(_computed(process.stats))
        tokens = {(label, phase): each[phase] for label, each in sums.items() for phase in ("prefill", "decode")}
        batches = {(label,): (each["passes"], each["rows"]) for label, each in sums.items()}
        drafted = {(label,): each["drafted"] for label, each in sums.items()}
        accepted = {(label,): each["accepted"] for label, each in sums.items()}
        return [COMPUTED.now(tokens), BATCHES.sums(batches), DRAFTED.now(drafted), ACCEPTED.now(accepted)]

    def kept(self) -> Iterable[Metric]:
        """All that is counted here, but what processes compute."""
        return self._registry.collect()


def _computed(stats: Stats) -> dict[str, int]:
    tokens = {"prefill": stats.prompt_tokens, "decode": stats.generated_tokens}
    drafts = {"drafted": stats.drafted_tokens, "accepted": stats.accepted_tokens}
    return {**tokens, **drafts, "passes": stats.decode_passes, "rows": stats.decode_rows}
