"""A tool call that the answer's end cuts, on a real server: every dialect says the same, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic_core import from_json

from tests.serving import LOOPBACK, PATIENCE, Served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NOTHING = {"type": "object", "properties": {}}
SCHEMAS = {"get_weather": PARAMETERS, "get_time": NOTHING}
FUNCTIONS = [{"name": name, "description": name, "parameters": schema} for name, schema in SCHEMAS.items()]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
MESSAGES = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
LENGTHS = (12, 24, *range(25, 32), 38, 45, 48, 50, 51, 52, 53)  # mostly where calls begin, go on and end
Call = tuple[str, Any]
"""A function's name, and its arguments as text or, where the API has no text, as an object."""
Answer = tuple[str, list[Call], Any]
"""Content, calls, and why the answer ended."""


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        yield client


def post(client: httpx.Client, path: str, **body: Any) -> httpx.Response:
    answer = client.post(path, json={"model": "tinychat", **body})
    assert answer.is_success, answer.text
    return answer


def events(client: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    lines = post(client, path, stream=True, **body).text.splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith(("data: {", "{"))]
    return [json.loads(piece) for piece in data]


def chat(client: httpx.Client, **body: Any) -> tuple[Answer, Answer, int]:
    """The streamed and the whole answer of OpenAI's chat, and how many tokens have log-probabilities."""
    body = {"messages": MESSAGES, "tools": TOOLS, "temperature": 0, "seed": 1, **body}
    calls: dict[int, Call] = {}
    content, end, scores = "", None, 0
    for chunk in events(client, "/v1/chat/completions", **body):
        (choice,) = chunk["choices"]
        end = choice["finish_reason"] or end
        content += choice["delta"].get("content") or ""
        scores += len((choice.get("logprobs") or {"content": []})["content"])
        for part in choice["delta"].get("tool_calls", []):
            name, text = calls.get(part["index"], (part["function"].get("name"), ""))
            calls[part["index"]] = (name, text + part["function"]["arguments"])
    (choice,) = post(client, "/v1/chat/completions", **body).json()["choices"]
    message = choice["message"]
    whole = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    assert len((choice.get("logprobs") or {"content": []})["content"]) == scores
    return (
        (content, [*map(compact, calls.values())], end),
        (message["content"], [*map(compact, whole)], choice["finish_reason"]),
        scores,
    )


def compact(call: Call) -> Call:
    """The call, its arguments without blanks if they are complete: in whole answers they are so."""
    try:
        return call[0], json.dumps(json.loads(call[1]))
    except ValueError:
        return call


def messages(client: httpx.Client, **body: Any) -> tuple[Answer, Answer]:
    """The streamed and the whole answer of Anthropic's messages."""
    tools = [{"name": name, "input_schema": schema} for name, schema in SCHEMAS.items()]
    body = {"messages": MESSAGES, "tools": tools, "temperature": 0, "max_tokens": 100, **body}
    blocks: list[dict[str, Any]] = []
    end = None
    for event in events(client, "/v1/messages", **body):
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"] | {"text": "", "input": ""})
        elif event["type"] == "content_block_delta":
            blocks[-1]["text"] += event["delta"].get("text", "")
            blocks[-1]["input"] += event["delta"].get("partial_json", "")
        elif event["type"] == "message_delta":
            end = event["delta"]["stop_reason"]
    for block in blocks:
        block["input"] = from_json(block["input"] or "{}", allow_partial=True)
    whole = post(client, "/v1/messages", **body).json()
    return (*said_in(blocks), end), (*said_in(whole["content"]), whole["stop_reason"])


def said_in(blocks: list[dict[str, Any]]) -> tuple[str, list[Call]]:
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    return text, [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]


def responses(client: httpx.Client, **body: Any) -> tuple[Answer, Answer]:
    """The streamed and the whole answer of OpenAI's responses."""
    tools = [{"type": "function", **function} for function in FUNCTIONS]
    body = {"input": MESSAGES, "tools": tools, "temperature": 0, **body}
    last = events(client, "/v1/responses", **body)[-1]["response"]
    return said_by(last), said_by(post(client, "/v1/responses", **body).json())


def said_by(response: dict[str, Any]) -> Answer:
    text = "".join(item["content"][0]["text"] for item in response["output"] if item["type"] == "message")
    calls = [(item["name"], item["arguments"]) for item in response["output"] if item["type"] == "function_call"]
    return text, [*map(compact, calls)], response["status"]


def ollama(client: httpx.Client, **options: Any) -> tuple[Answer, Answer]:
    """The streamed and the whole answer of Ollama's chat."""
    body = {"messages": MESSAGES, "tools": TOOLS, "options": {"temperature": 0, "seed": 1, **options}}
    lines = events(client, "/api/chat", **body)
    whole = post(client, "/api/chat", stream=False, **body).json()
    return of_lines(lines), of_lines([whole])


def of_lines(lines: list[dict[str, Any]]) -> Answer:
    calls = [call["function"] for line in lines for call in line["message"].get("tool_calls", [])]
    text = "".join(line["message"]["content"] for line in lines)
    return text, [(call["name"], call["arguments"]) for call in calls], lines[-1]["done_reason"]


def test_every_dialect_says_the_same_streamed_and_whole(client: httpx.Client) -> None:
    cut = set()
    for length in LENGTHS:
        streamed, whole, _ = chat(client, max_tokens=length)
        content, calls, end = streamed
        assert (whole, content) == (streamed, ""), length
        names = [name for name, _ in calls]
        read = [from_json(text, allow_partial=True) for _, text in calls]
        complete = [is_json(text) for _, text in calls]
        assert all(complete[:-1])

        streamed, whole = responses(client, max_output_tokens=length)
        assert (whole, streamed[:2]) == (streamed, ("", calls)), length

        streamed, whole = messages(client, max_tokens=length)
        assert (whole, streamed[:2]) == (streamed, ("", [*zip(names, read, strict=True)])), length

        streamed, whole = ollama(client, num_predict=length)
        known = [call for call, done in zip(zip(names, read, strict=True), complete, strict=True) if done]
        assert whole == streamed, length
        assert streamed[:2] == ("", known), length
        cut.add((end, len(calls), all(complete)))
    assert cut >= {("length", 0, True), ("length", 1, False), ("length", 1, True), ("length", 2, False)}


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize(
    ("stop", "calls"), [("Par", [("get_weather", '{"city": "')]), ("city", [("get_weather", '{"')]), ("get_", [])]
)
def test_a_stop_text_within_a_call(client: httpx.Client, choice: str, stop: str, calls: list[Call]) -> None:
    streamed, whole, _ = chat(client, stop=[stop], tool_choice=choice)
    assert whole == streamed == ("", calls, "stop")


@pytest.mark.parametrize("length", [18, 24, 28, 44])
def test_each_token_has_its_log_probability(client: httpx.Client, length: int) -> None:
    streamed, whole, scores = chat(client, max_tokens=length, logprobs=True)
    assert (whole, streamed[0], scores) == (streamed, "", length)
