"""What a real server logs: at INFO a line for each thing that matters, at DEBUG the story of a request; no secrets."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.modelfile.create.models import TINYCHAT
from tests.registry.servers import http
from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served, serving

SECRETS = ("sesame-open-you", "walrus-prompt", "walrus-system", "walrus-text")
HEADERS = {"Authorization": f"Bearer {SECRETS[0]}"}
CHAT = {
    "model": "tinychat",
    "messages": [{"role": "system", "content": SECRETS[2]}, {"role": "user", "content": f"Say {SECRETS[1]}"}],
    "options": GREEDY | {"num_predict": 5},
    "stream": False,
}


@dataclass(frozen=True, slots=True)
class Log:
    """The lines of a server that logs JSON."""

    served: Served

    def lines(self) -> list[dict[str, Any]]:
        text = self.served.log.read_text()
        return [json.loads(line) for line in text[: text.rindex("\n")].split("\n")] if "\n" in text else []

    def of_request(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("request_id") == request_id]

    def one(self, message: str, **values: object) -> dict[str, Any]:
        """The one line with this message and these values, which may have yet to be written."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lines = [line for line in self.lines() if line["message"] == message and line | values == line]
            if lines or time.monotonic() > deadline:
                (line,) = lines
                return line
            time.sleep(0.02)


def post(served: Served, path: str, body: dict[str, Any], request_id: str, *, status: int = 200) -> httpx.Response:
    headers = HEADERS | {"X-Request-Id": request_id}
    answer = httpx.post(served.url + path, json=body, headers=headers, timeout=PATIENCE, **LOOPBACK)
    assert answer.headers["x-request-id"] == request_id
    assert answer.status_code == status, answer.text
    return answer


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    folder = tmp_path_factory.mktemp("log")
    environ = {"OLLAMA_DEBUG": "1", "PRONK_LOG_FORMAT": "json", "OLLAMA_MAX_LOADED_MODELS": "1"}
    with serving(folder / "models", **environ) as served:
        yield Log(served)


@pytest.mark.parametrize("output_format", [None, {"type": "object", "properties": {"a": {"type": "string"}}}])
def test_one_id_from_arrival_to_end(log: Log, output_format: dict[str, Any] | None) -> None:
    request_id = f"story-{output_format is not None}"
    answer = post(log.served, "/api/chat", CHAT | {"format": output_format}, request_id).json()
    log.one("sequence ended", request_id=request_id)  # comes after the answer, as does the line of the request
    log.one("request", request_id=request_id)
    lines = log.of_request(request_id)
    messages = [line["message"] for line in lines]
    ours = ["request arrived", "request checked", "model requested", "model granted", "chat template rendered"]
    ours += ["prompt made", "answered", "model released", "request"]
    assert [message for message in messages if message in ours] == ours
    child = [line for line in lines if line["logger"] == "pronk.runner"]
    theirs = ["request prepared", "sequence queued", "sequence admitted", "sequence ended"]
    assert [line["message"] for line in child if line["message"] in theirs] == theirs
    pid = lines[messages.index("model granted")]["pid"]
    assert {(line["model"], line["pid"]) for line in child} == {("tinychat:latest", pid)}
    line = log.one("answered", request_id=request_id)
    assert (answer["eval_count"], answer["prompt_eval_count"]) == (line["tokens"], line["prompt_tokens"])
    assert ("grammar checked" in messages) is ("grammar compiled" in messages) is (output_format is not None)


def test_an_answer_is_one_line(log: Log) -> None:
    for request_id in ("answer-0", "answer-1"):
        post(log.served, "/api/chat", CHAT | {"options": {"num_predict": 5}}, request_id)
    line = log.one("answered", request_id="answer-1")
    assert (line["level"], line["model"], line["tokens"], line["end"]) == ("INFO", "tinychat:latest", 5, "length")
    assert line["prompt_tokens"] >= line["cached_tokens"] > 0
    assert all(line[name] > 0 for name in ("tokens_per_second", "first_token_ms", "seconds"))


def test_the_line_of_a_request_has_all(log: Log) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    post(log.served, "/api/chat", CHAT | {"options": {"num_predict": 5}}, "all-0")
    answer, request = (log.one(message, request_id="all-0") for message in ("answered", "request"))
    told = ("model", "prompt_tokens", "cached_tokens", "tokens", "tokens_per_second", "first_token_ms", "end")
    assert {name: request[name] for name in told} == {name: answer[name] for name in told}
    assert request["client"].startswith("127.0.0.1:")
    several = {"model": "tinychat", "messages": messages, "n": 2, "max_tokens": 4}
    usage = post(log.served, "/v1/chat/completions", several, "all-1").json()["usage"]
    assert log.one("request", request_id="all-1")["tokens"] == usage["completion_tokens"]
    embedded = post(log.served, "/api/embed", {"model": "tinychat", "input": "one"}, "all-2").json()
    request = log.one("request", request_id="all-2")
    assert (request["model"], request["prompt_tokens"]) == ("tinychat:latest", embedded["prompt_eval_count"])
    httpx.get(f"{log.served.url}/api/tags", headers={"X-Request-Id": "all-3"}, **LOOPBACK)
    assert not {"model", "error"} & log.one("request", request_id="all-3").keys()


def test_the_line_of_a_request_that_failed_says_why(log: Log) -> None:
    post(log.served, "/api/chat", CHAT | {"model": "nobody"}, "failed-0", status=404)
    long = CHAT | {"messages": [{"role": "user", "content": "one two " * 2000}], "truncate": False}
    post(log.served, "/api/chat", long, "failed-1", status=400)
    post(log.served, "/api/pull", {"model": "http://127.0.0.1:9/a/b", "insecure": True}, "failed-2")
    lines = [log.one("request", request_id=f"failed-{number}") for number in range(3)]
    assert [(line["status"], line["error"]) for line in lines] == [
        (404, "ModelNotFound"),
        (400, "ContextExceeded"),
        (200, "ManifestUnavailable"),
    ]


def test_a_client_that_leaves(log: Log) -> None:
    long = {"type": "array", "items": {"enum": ["one", "two", "three"]}, "minItems": 300}
    endless = CHAT | {"stream": True, "format": long, "options": {"num_predict": -1}}
    headers = {"X-Request-Id": "leaves"}
    client = httpx.Client(base_url=log.served.url, timeout=PATIENCE, **LOOPBACK)
    with client, client.stream("POST", "/api/chat", json=endless, headers=headers) as answer:
        next(answer.iter_lines())
    line = log.one("answered", request_id="leaves")
    assert (line["end"], "tokens" in line) == ("cancelled", False)
    assert log.one("sequence cancelled", request_id="leaves")["model"] == "tinychat:latest"
    assert log.one("client left", request_id="leaves")["level"] == "DEBUG"


def test_vectors_are_one_line(log: Log) -> None:
    post(log.served, "/api/embed", {"model": "tinychat", "input": [SECRETS[3], "two"]}, "embed-1")
    line = log.one("embedded", request_id="embed-1")
    assert (line["level"], line["model"], line["texts"]) == ("INFO", "tinychat:latest", 2)
    assert line["tokens"] > 2
    assert log.one("texts embedded", request_id="embed-1")["logger"] == "pronk.runner"


def test_loads_evictions_and_unloads(log: Log) -> None:
    store = Store(log.served.store)
    layer = Layer(MODEL, *store.add_blob(TINYCHAT.read_bytes() + bytes(32)))
    store.write_manifest(
        ModelName.parse("other"), Manifest(store.find(ModelName.parse("tinychat")).manifest.config, (layer,))
    )
    post(log.served, "/api/generate", {"model": "tinychat"}, "load-1")
    post(log.served, "/api/generate", {"model": "other", "keep_alive": -1}, "load-2")
    loaded = log.one("loaded", request_id="load-2")
    assert (loaded["level"], loaded["model"]) == ("INFO", "other:latest")
    assert bool(loaded["gpu_layers"]) is (loaded["devices"] != "cpu")
    assert all(loaded[name] > 0 for name in ("seconds", "planned_bytes", "resident_bytes", "layers", "pid"))
    evicted = log.one("evicted", request_id="load-2")
    assert (evicted["level"], evicted["model"], evicted["evicted_for"]) == ("INFO", "tinychat:latest", "other:latest")
    assert evicted["bytes"] > 0
    post(log.served, "/api/generate", {"model": "other", "keep_alive": 0}, "unload-1")
    unloaded = log.one("unloaded", model="other:latest")
    assert (unloaded["level"], unloaded["pid"]) == ("INFO", loaded["pid"])
    assert unloaded["reason"] == "stopped by a request"


def test_pull_and_create_are_one_line_each(log: Log) -> None:
    post(log.served, "/api/pull", {"model": "tinychat", "stream": False}, "pull-1")
    post(log.served, "/api/create", {"model": "mine", "from": "tinychat", "system": SECRETS[2]}, "create-1")
    for message, request_id, model in (("pulled", "pull-1", "tinychat"), ("created", "create-1", "mine")):
        line = log.one(message, request_id=request_id)
        assert (line["level"], line["model"]) == ("INFO", f"{model}:latest")
        assert line["bytes"] > TINYCHAT.stat().st_size
        assert line["seconds"] >= 0


async def test_a_push_is_one_line(log: Log) -> None:
    async with http.serving(lambda request: http.Answer(201 if request.method == "PUT" else 200)) as server:
        name = f"{server.host}/library/pushed"
        async with httpx.AsyncClient(base_url=log.served.url, **LOOPBACK, timeout=PATIENCE) as client:
            await client.post("/api/copy", json={"source": "tinychat", "destination": name})
            body = {"model": name, "insecure": True, "stream": False}
            answer = await client.post("/api/push", json=body, headers={"X-Request-Id": "push-1"})
            assert answer.json() == {"status": "success"}, answer.text
            lost = await client.post(
                "/api/pull", json={"model": name + "2", "insecure": True}, headers={"X-Request-Id": "pull-2"}
            )
            assert "error" in lost.text
    line = log.one("pushed", request_id="push-1")
    assert (line["level"], line["model"]) == ("INFO", f"{name}:latest")
    assert line["bytes"] > TINYCHAT.stat().st_size
    failed = log.one("pull failed", request_id="pull-2")
    assert failed["reason"] in lost.text


def test_no_secret_is_logged(log: Log) -> None:
    post(log.served, "/api/chat", CHAT, "secret-1")
    post(log.served, "/api/generate", {"model": "tinychat", "prompt": SECRETS[1], "raw": True} | CHAT, "secret-2")
    post(log.served, "/api/embed", {"model": "tinychat", "input": SECRETS[3]}, "secret-3")
    refused = httpx.post(f"{log.served.url}/api/chat", json=CHAT | {"model": "nope"}, headers=HEADERS, timeout=PATIENCE)
    assert refused.status_code == 404
    log.one("request", request_id="secret-3")
    text = log.served.log.read_text()
    assert not [secret for secret in SECRETS if secret in text]


def test_text_at_info(tmp_path: Path) -> None:
    with serving(tmp_path / "models") as served:
        post(served, "/api/chat", CHAT, "text-1")
    lines = served.log.read_text().splitlines()
    shape = re.compile(r"time=\S+Z level=(INFO|WARNING) \S.*")
    assert all(shape.fullmatch(line) for line in lines)
    of_request = [line.split(" level=INFO ")[1].split()[0] for line in lines if line.endswith("request_id=text-1")]
    assert of_request == ["loaded", "answered", "request"]
    assert "llama.cpp:" not in served.log.read_text()


def test_prompts_are_in_the_trace(tmp_path: Path) -> None:
    with serving(tmp_path / "models", OLLAMA_DEBUG="2", PRONK_LOG_FORMAT="json") as served:
        post(served, "/api/chat", CHAT, "trace-1")
        log = Log(served)
        assert SECRETS[1] in log.one("prompt", request_id="trace-1", level="TRACE")["prompt"]
        steps = [line for line in log.lines() if line["message"] == "pass"]
    assert {line["level"] for line in steps} == {"TRACE"}
    assert SECRETS[0] not in served.log.read_text()
