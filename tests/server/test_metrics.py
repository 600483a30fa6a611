"""`/metrics` of a real server, read with Prometheus' own parser: counts are exact and never go back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from engine.metrics import MOST_MODELS, OTHER, EngineMetrics
from server.metrics import FAMILIES
from tests.modelfile.create.models import TINYCHAT
from tests.registry.servers import http, registry
from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served, serving

MODEL = {"model": "tinychat:latest"}


class Page:
    """The samples of a page."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {family.name: family for family in parse(text)}
        self.samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(lines) == len(self.samples), "a series is there twice"

    def value(self, name: str, /, **labels: str) -> float:
        return self.samples.get((name, *sorted(labels.items())), 0.0)

    def labels(self, label: str) -> set[str]:
        """All values of a label."""
        return {value for _, *pairs in self.samples for name, value in pairs if name == label}


def page(served: Served) -> Page:
    answer = httpx.get(f"{served.url}/metrics", **LOOPBACK)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.text)


def until(served: Served, holds: Callable[[Page], bool]) -> Page:
    """The first page of which this holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds(found := page(served)):
        assert time.monotonic() < deadline, found.samples
        time.sleep(0.05)
    return found


def post(served: Served, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = httpx.post(served.url + path, json=body, timeout=PATIENCE, **LOOPBACK)
    assert answer.status_code == status, answer.text
    parsed: dict[str, Any] = answer.json()
    return parsed


def chat(served: Served, text: str, tokens: int = 8, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    options = GREEDY | {"num_predict": tokens}
    return post(served, "/api/chat", model="tinychat", messages=messages, options=options, stream=False, **body)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("metrics") / "models", OLLAMA_NUM_PARALLEL="1") as served:
        yield served


def grown(before: Page, after: Page, name: str, /, **labels: str) -> float:
    return after.value(name, **labels) - before.value(name, **labels)


def test_answers_are_counted_exactly(served: Served) -> None:
    before = page(served)
    answers = [chat(served, f"Say hello to {name}") for name in ("Ada", "Ada", "Grace")]
    vectors = post(served, "/api/embed", model="tinychat", input=["one", "two"])
    long = post(served, "/v1/chat/completions", model="tinychat", messages=[{"role": "user", "content": "Hello"}])
    after = until(served, lambda now: grown(before, now, "pronk_num_requests_running", **MODEL) == 0)

    def counted(name: str, /, **labels: str) -> float:
        return grown(before, after, name, **MODEL, **labels)

    usage = long["usage"]
    prompts = sum(answer["prompt_eval_count"] for answer in answers) + usage["prompt_tokens"]
    written = sum(answer["eval_count"] for answer in answers) + usage["completion_tokens"]
    cached = sum(answer.get("prompt_eval_cached", 0) for answer in answers)
    cached += usage["prompt_tokens_details"]["cached_tokens"]
    assert counted("pronk_prompt_cache_queried_tokens_total") == prompts
    assert counted("pronk_prompt_tokens_total") == prompts + vectors["prompt_eval_count"]
    assert counted("pronk_generation_tokens_total") == written
    tiers = [counted("pronk_prompt_cache_hit_tokens_total", tier=tier) for tier in ("stream", "memory")]
    assert sum(tiers) == cached > 0
    ends = {end: counted("pronk_answers_total", end=end) for end in ("length", "stop", "tool_calls", "cancelled")}
    assert sum(ends.values()) == 4
    assert ends["length"] == sum(answer["done_reason"] == "length" for answer in answers)
    for name in ("time_to_first_token", "time_per_output_token", "request_queue_time", "e2e_request_latency"):
        assert counted(f"pronk_{name}_seconds_count") == 4, name
        assert counted(f"pronk_{name}_seconds_bucket", le="+Inf") == 4, name
    spent = sum(answer["total_duration"] for answer in answers) / 1e9
    assert 0 < counted("pronk_time_to_first_token_seconds_sum") <= counted("pronk_e2e_request_latency_seconds_sum")
    assert counted("pronk_e2e_request_latency_seconds_sum") >= spent * 0.9
    requests = {"method": "POST", "status": "200"}
    assert grown(before, after, "pronk_http_requests_total", route="/api/chat", **requests) == 3
    assert grown(before, after, "pronk_http_requests_total", route="/api/embed", **requests) == 1
    assert grown(before, after, "pronk_http_requests_total", route="/v1/chat/completions", **requests) == 1
    assert grown(before, after, "pronk_http_request_duration_seconds_count", route="/api/chat") == 3


def test_what_passes_compute(served: Served) -> None:
    chat(served, "Count to ten, please, and then back again", 30)

    def value(now: Page, name: str, /, **labels: str) -> float:
        return now.value(f"pronk_{name}", **MODEL, **labels)

    def is_told(now: Page) -> bool:  # within a second, in the process's next report
        decoded = value(now, "computed_tokens_total", phase="decode")
        return decoded == value(now, "generation_tokens_total") and not value(now, "num_requests_running")

    found = until(served, is_told)
    hits = sum(value(found, "prompt_cache_hit_tokens_total", tier=tier) for tier in ("stream", "memory"))
    computed = value(found, "computed_tokens_total", phase="prefill")
    assert computed == value(found, "prompt_tokens_total") - hits
    answers = sum(value(found, "answers_total", end=end) for end in ("stop", "length"))
    rows = value(found, "decode_batch_size_sum")
    assert rows == value(found, "generation_tokens_total") - answers  # an answer's first token is its prompt's
    assert 0 < value(found, "decode_batch_size_count") <= rows
    assert value(found, "batch_size") == 1
    assert value(found, "kv_cache_cells") >= value(found, "kv_cache_used_cells") > 30


def test_a_prompt_that_comes_back_from_memory(served: Served) -> None:
    ballads = [f"Sing the ballad of the {bird}. " * 20 for bird in ("wren", "owl")]
    chat(served, ballads[0])
    chat(served, ballads[1])  # there is one stream: the first one's state moves out of it
    before = page(served)
    answer = chat(served, ballads[0])
    after = page(served)
    assert answer["prompt_eval_cached"] > 50
    hits = [
        grown(before, after, "pronk_prompt_cache_hit_tokens_total", tier=tier, **MODEL) for tier in ("stream", "memory")
    ]
    assert hits == [0, answer["prompt_eval_cached"]]


def test_a_prompt_that_comes_back_from_disk(tmp_path: Path) -> None:
    ballad = "Sing the ballad of the wren. " * 60
    environ = {"OLLAMA_NUM_PARALLEL": "1", "PRONK_PROMPT_CACHE_DISK": f"{tmp_path / 'cache'}:64MiB"}
    for _ in range(2):  # with a restart between both
        with serving(tmp_path / "models", **environ) as server:
            answer = chat(server, ballad)
            after = page(server)
            (shown,) = httpx.get(f"{server.url}/api/ps", **LOOPBACK).json()["models"]
    assert answer["prompt_eval_cached"] > 256
    hits = {tier: after.value("pronk_prompt_cache_hit_tokens_total", tier=tier, **MODEL) for tier in ("memory", "disk")}
    assert hits == {"memory": 0, "disk": answer["prompt_eval_cached"]}
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.state"))
    assert after.value("pronk_prompt_cache_disk_bytes") == shown["prompt_cache_disk"] == size > 0


def test_memory_of_models_and_devices(served: Served) -> None:
    chat(served, "Hello")
    found = page(served)
    running = httpx.get(f"{served.url}/api/ps", **LOOPBACK).json()["models"]
    assert found.value("pronk_models_loaded") == len(running) == 1
    devices = found.labels("device")
    real = sum(found.value("pronk_model_memory_bytes", device=device, **MODEL) for device in devices)
    assert real == running[0]["size"] - embedding_bytes(found, running[0]["size"])
    planned = sum(found.value("pronk_model_planned_memory_bytes", device=device, **MODEL) for device in devices)
    assert 0.8 < real / planned < 1.25
    assert found.value("pronk_model_resident_memory_bytes", **MODEL) > TINYCHAT.stat().st_size
    for name, *labels in found.samples:
        if name == "pronk_device_memory_bytes":
            free = found.samples["pronk_device_memory_free_bytes", *labels]
            assert 0 < free <= found.samples[name, *labels] <= psutil.virtual_memory().total or "cpu" not in str(labels)
    assert found.value("pronk_load_queue_limit") == 512


def test_counters_go_on_after_an_unload_and_a_crash(served: Served) -> None:
    chat(served, "Hello")
    before = until(served, lambda now: now.value("pronk_num_requests_running", **MODEL) == 0)
    chat(served, "Hello", keep_alive=0)
    unloads = "pronk_model_unloads_total"
    unloaded = until(served, lambda now: grown(before, now, unloads, reason="idle", **MODEL) == 1)
    assert unloaded.value("pronk_models_loaded") == 0
    assert_no_counter_went_back(before, unloaded)
    assert "pronk_model_memory_bytes" not in {name for name, *_ in unloaded.samples}
    chat(served, "Hello")
    (runner,) = [each for each in served.runners() if each.pid == loaded_pid(served)]
    runner.kill()
    crashed = until(served, lambda now: grown(unloaded, now, unloads, reason="crashed", **MODEL) == 1)
    assert_no_counter_went_back(unloaded, crashed)
    assert grown(before, crashed, "pronk_model_load_seconds_count", result="ok", **MODEL) == 1
    chat(served, "Hello")
    assert_no_counter_went_back(crashed, page(served))


def assert_no_counter_went_back(before: Page, after: Page) -> None:
    counters = {
        (sample.name, *sorted(sample.labels.items()))
        for family in before.families.values()
        if family.type in ("counter", "histogram", "summary") and family.name.startswith("pronk")
        for sample in family.samples
    }
    assert len(counters) > 50
    assert not [key for key in counters if key not in after.samples or after.samples[key] < before.samples[key]]


def loaded_pid(served: Served) -> int:
    lines = [line for line in served.log.read_text().splitlines() if " loaded model=" in line]
    return int(lines[-1].split(" pid=")[1].split()[0])


def embedding_bytes(found: Page, size: int) -> float:
    """What `/api/ps` counts beside llama.cpp's buffers once the model has embedded."""
    real = sum(value for (name, *_), value in found.samples.items() if name == "pronk_model_memory_bytes")
    return size - real


def test_clients_make_no_labels(served: Served) -> None:
    before = page(served)
    for number in range(20):
        post(served, "/api/chat", 404, model=f"no-such-model-{number}", messages=[{"role": "user", "content": "x"}])
        httpx.get(f"{served.url}/no/such/route/{number}", **LOOPBACK)
        httpx.request(f"VERB{number}", f"{served.url}/api/tags", **LOOPBACK)
        httpx.get(f"{served.url}/v1/models/no-such-model-{number}", **LOOPBACK)
    after = page(served)
    assert "no-such" not in str(after.samples)
    assert "VERB" not in str(after.samples)
    assert after.labels("model") == before.labels("model")
    requests = "pronk_http_requests_total"
    assert grown(before, after, requests, route="unknown", method="GET", status="404") == 20
    assert grown(before, after, requests, route="/v1/models/{model}", method="GET", status="404") == 20
    assert grown(before, after, requests, route="/api/chat", method="POST", status="404") == 20
    assert grown(before, after, "pronk_errors_total", kind="ModelNotFound") >= 20
    unknown = sum(
        grown(before, after, requests, route=route, method="unknown", status=status)
        for route in ("/api/tags", "unknown")
        for status in ("400", "405")
    )
    assert unknown == 20


def test_many_models_share_a_label() -> None:
    metrics = EngineMetrics()
    labels = {metrics.label(f"model-{number}:latest") for number in range(2 * MOST_MODELS)}
    assert len(labels) == MOST_MODELS + 1
    assert OTHER in labels
    assert metrics.label("model-0:latest") == "model-0:latest"


def test_errors_and_what_is_no_request(served: Served) -> None:
    before = page(served)
    post(served, "/api/chat", 400, model="tinychat", messages=[], options={"num_ctx": "many"})
    httpx.post(f"{served.url}/api/chat", content=b"{", **LOOPBACK)
    with httpx.Client(base_url=served.url, **LOOPBACK) as client:
        client.get("/api/tags", headers={"X-Long": "x" * (65 << 10)})
    after = page(served)
    assert grown(before, after, "pronk_errors_total", kind="OptionError") == 1
    assert grown(before, after, "pronk_errors_total", kind="InvalidBody") == 1
    assert grown(before, after, "pronk_http_requests_total", route="unknown", method="unknown", status="431") == 1


def test_cancelled_answers(served: Served) -> None:
    before = page(served)
    endless = {"type": "array", "items": {"enum": ["one", "two", "three"]}, "minItems": 300}
    body = {"model": "tinychat", "prompt": "Go on", "options": {"num_predict": -1}, "format": endless}
    client = httpx.Client(base_url=served.url, timeout=PATIENCE, **LOOPBACK)
    with client, client.stream("POST", "/api/generate", json=body) as answer:
        next(answer.iter_lines())
    after = until(served, lambda now: grown(before, now, "pronk_answers_total", end="cancelled", **MODEL) == 1)
    assert grown(before, after, "pronk_generation_tokens_total", **MODEL) >= 1
    assert grown(before, after, "pronk_prompt_tokens_total", **MODEL) == 0
    assert grown(before, after, "pronk_e2e_request_latency_seconds_count", **MODEL) == 1


async def test_pulls_and_pushes(served: Served) -> None:
    before = await asyncio.to_thread(page, served)
    source = registry.MemoryRegistry()
    manifest = source.add("library/pulled:latest", TINYCHAT.read_bytes() + bytes(32))

    def sink(request: http.Request) -> http.Answer:
        status = {"HEAD": 404, "POST": 202, "PATCH": 202}.get(request.method, 201)
        return http.Answer(status, headers={"location": f"http://{request.headers['host']}/upload"})

    async with (
        http.serving(source) as origin,
        http.serving(sink) as target,
        httpx.AsyncClient(base_url=served.url, **LOOPBACK, timeout=PATIENCE) as client,
    ):
        name, copy = f"{origin.host}/library/pulled", f"{target.host}/library/pushed"
        for body in ({"model": name}, {"model": name + "-not"}):
            await client.post("/api/pull", json=body | {"insecure": True})
        await client.post("/api/copy", json={"source": name, "destination": copy})
        answer = await client.post("/api/push", json={"model": copy, "insecure": True, "stream": False})
        assert answer.json() == {"status": "success"}, answer.text
    after = await asyncio.to_thread(page, served)
    size = sum(layer.size for layer in (*manifest.layers, manifest.config))

    def counted(name: str, labels: Mapping[str, str]) -> float:
        return grown(before, after, name, **labels)

    assert counted("pronk_transfer_bytes_total", {"direction": "received"}) == size
    assert counted("pronk_transfer_bytes_total", {"direction": "sent"}) == size
    assert counted("pronk_transfers_total", {"verb": "pull", "result": "success"}) == 1
    assert counted("pronk_transfers_total", {"verb": "pull", "result": "failed"}) == 1
    assert counted("pronk_transfers_total", {"verb": "push", "result": "success"}) == 1


def test_the_page_is_what_the_docs_say(served: Served) -> None:
    chat(served, "Hello")
    found = page(served)
    told = {name for name, family in found.families.items() if family.name.startswith("pronk_")}
    assert told == {family.name.removesuffix("_total") for family in FAMILIES}
    types = {family.name.removesuffix("_total"): family for family in FAMILIES}
    for name in told:
        family = found.families[name]
        assert family.type == types[name].kind
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(types[name].labels)
    for name in ("process_resident_memory_bytes", "process_cpu_seconds", "python_info"):
        assert name in found.families
    assert {sample.value for sample in found.families["pronk_build_info"].samples} == {1}


def test_openmetrics(served: Served) -> None:
    answer = httpx.get(f"{served.url}/metrics", headers={"Accept": "application/openmetrics-text"}, **LOOPBACK)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(answer.text)}
    assert "pronk_http_requests" in names


def test_the_guard_is_in_front(served: Served) -> None:
    foreign = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert httpx.get(f"{served.url}/metrics", headers=foreign, **LOOPBACK).status_code == 403
    assert httpx.post(f"{served.url}/metrics", **LOOPBACK).status_code == 405
    head = httpx.head(f"{served.url}/metrics", **LOOPBACK)
    assert (head.status_code, head.content) == (200, b"")


def test_unloads_are_counted_by_reason(tmp_path: Path) -> None:
    unloads = "pronk_model_unloads_total"
    with serving(tmp_path / "models", OLLAMA_MAX_LOADED_MODELS="1") as served:
        post(served, "/api/generate", model="tinychat")
        post(served, "/api/generate", model="sight")
        assert page(served).value(unloads, reason="room_for_model", **MODEL) == 1
        post(served, "/api/generate", model="tinychat")
        post(served, "/api/generate", model="tinychat", keep_alive=0)
        until(served, lambda now: now.value(unloads, reason="requested", **MODEL) == 1)
        post(served, "/api/generate", model="tinychat")
        delete = httpx.Request("DELETE", f"{served.url}/api/delete", json={"model": "tinychat"})
        with httpx.Client(**LOOPBACK) as client:
            client.send(delete).raise_for_status()
        found = until(served, lambda now: now.value(unloads, reason="deleted", **MODEL) == 1)
    assert found.labels("reason") == {"room_for_model", "requested", "deleted"}
