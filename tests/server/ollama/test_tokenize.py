"""Tokens, texts and prompts: what is checked, what the engine gets, and what a real server answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import (
    ChatRequest,
    Detokenized,
    DetokenizeRequest,
    GenerateRequest,
    Message,
    Rendered,
    Tokenized,
    TokenizeRequest,
)
from engine.errors import InvalidRequest
from tests.server.fake_engine import FakeEngine
from tests.serving import GREEDY, LOOPBACK, Served

MESSAGES = [{"role": "User", "content": "Hi"}]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("tokenize", {"content": "a"}, "model is required"),
        ("tokenize", {"model": " ", "content": "a"}, "model is required"),
        ("tokenize", {"model": "t"}, "content is required"),
        ("tokenize", {"model": "t", "text": "a", "messages": []}, "content and messages cannot be used together"),
        (
            "tokenize",
            {"model": "t", "content": ["a"]},
            "json: cannot unmarshal array into Go struct field TokenizeRequest.content of type string",
        ),
        ("tokenize", {"model": "t", "messages": []}, "messages is required"),
        ("detokenize", {"tokens": []}, "model is required"),
        ("detokenize", {"model": "t"}, "tokens is required"),
        (
            "detokenize",
            {"model": "t", "tokens": [1, 2.5]},
            "json: cannot unmarshal number 2.5 into Go struct field DetokenizeRequest.tokens of type int",
        ),
        ("render", {"messages": MESSAGES}, "model is required"),
        ("render", {"model": "t", "system": "s"}, "messages or prompt is required"),
        (
            "render",
            {"model": "t", "prompt": "p", "images": ["QUI="] * 17},
            "too many images: 17, at most 16 are accepted",
        ),
        (
            "render",
            {"model": "t", "messages": [{"images": ["QUI="] * 17}]},
            "too many images: 17, at most 16 are accepted",
        ),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, body: dict[str, Any], message: str
) -> None:
    answer = await client.post(f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": message})
    assert not engine.asked


SHARED: dict[str, Any] = {"options": {"num_ctx": 64}, "keep_alive": "1m"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": "a"}, {"text": "a"}),
        ({"text": ""}, {"text": ""}),
        ({"prompt": "a", "add_special": True}, {"text": "a", "add_special": True}),
        ({"text": "a", "add_special_tokens": True}, {"text": "a", "add_special": True}),
        ({"text": "a", "add_special_tokens": True, "add_special": False}, {"text": "a"}),
        ({"content": "a", "text": "b", "parse_special": False}, {"text": "a", "parse_special": False}),
        ({"content": "a", "with_pieces": True}, {"text": "a", "pieces": True}),
        ({"content": "a", "return_token_strs": True}, {"text": "a", "pieces": True}),
    ],
)
async def test_a_tokenize_request(
    client: httpx.AsyncClient, engine: FakeEngine, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    engine.script = [Tokenized(tokens=[1])]
    answer = await client.post("/api/tokenize", json={"model": "T", **body, **SHARED})
    assert answer.status_code == 200
    assert engine.asked == [TokenizeRequest(model="T", options={"num_ctx": 64}, keep_alive=60.0, **expected)]


async def test_tokens(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Tokenized(tokens=[5, 6], pieces=[b"a", b"\xff"], context_length=9, load_duration=7)]
    body = {"model": "T", "content": "a"}
    answer = (await client.post("/api/tokenize", json=body)).json()
    assert answer.pop("total_duration") > 0
    plain = {"model": "T", "tokens": [5, 6], "count": 2, "max_model_len": 9, "load_duration": 7}
    assert answer == plain
    answer = (await client.post("/api/tokenize", json=body | {"with_pieces": True, "return_token_strs": True})).json()
    assert answer["tokens"] == [{"id": 5, "piece": "a"}, {"id": 6, "piece": [255]}]
    assert answer["token_strs"] == ["a", "\ufffd"]


async def test_a_conversation_in_tokens(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    """None of its messages is left out, and the tokenizer's own tokens are there, as when it runs."""
    engine.script = [Rendered("rendered"), Tokenized(tokens=[1])]
    body = {"model": "T", "messages": MESSAGES, "think": False, **SHARED}
    assert (await client.post("/api/tokenize", json=body)).json()["tokens"] == [1]
    shared: dict[str, Any] = {"model": "T", "options": {"num_ctx": 64}, "keep_alive": 60.0}
    assert engine.asked == [
        ChatRequest(**shared, messages=[Message("user", "Hi")], think=False, truncate=False),
        TokenizeRequest(**shared, text="rendered", add_special=True),
    ]


async def test_text(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Detokenized(text="a", load_duration=7)]
    answer = (await client.post("/api/detokenize", json={"model": "T", "tokens": [5, 6], **SHARED})).json()
    assert answer.pop("total_duration") > 0
    assert answer == {"model": "T", "content": "a", "text": "a", "prompt": "a", "load_duration": 7}
    assert engine.asked == [DetokenizeRequest(model="T", tokens=[5, 6], options={"num_ctx": 64}, keep_alive=60.0)]
    engine.script = [InvalidRequest("tokens[1] is not a token of this model")]
    refused = await client.post("/api/detokenize", json={"model": "T", "tokens": [5, 6]})
    assert (refused.status_code, refused.json()) == (400, {"error": "tokens[1] is not a token of this model"})


async def test_prompts(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Rendered("rendered", 2, 3)]
    body: dict[str, Any] = {"model": "T", "system": "s", **SHARED}
    answer = await client.post("/api/render", json=body | {"prompt": "p"})
    assert answer.json() == {"model": "T", "prompt": "rendered", "image_count": 2, "token_count": 3}
    await client.post("/api/render", json=body | {"messages": MESSAGES, "think": "low"})
    shared: dict[str, Any] = {"model": "T", "options": {"num_ctx": 64}, "keep_alive": 60.0}
    assert engine.asked == [
        GenerateRequest(**shared, prompt="p", system="s"),
        ChatRequest(**shared, messages=[Message("user", "Hi")], think="low"),
    ]


def ask(server: Served, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/api/{path}", json={"model": "tinychat", **body}, **LOOPBACK, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


PARTS = st.sampled_from(["<|im_start|>", "<|im_end|>", "🦙", "👩\u200d🚀", "e\u0301", "\0", "\r\n", "日本", "\ufffd"])
TEXTS = st.lists(PARTS | st.text(max_size=9), max_size=9).map("".join)


@settings(max_examples=20)
@given(TEXTS, st.booleans())
def test_any_text_comes_back(server: Served, text: str, parse_special: bool) -> None:
    tokenized = ask(server, "tokenize", content=text, parse_special=parse_special, with_pieces=True)
    ids = [token["id"] for token in tokenized["tokens"]]
    pieces = [token["piece"] for token in tokenized["tokens"]]
    assert tokenized["count"] == len(ids)
    assert b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces) == text.encode()
    assert ask(server, "detokenize", tokens=ids)["content"] == text


def test_counts_are_those_of_real_requests(server: Served) -> None:
    options = GREEDY | {"num_predict": 1}
    raw = {"prompt": "<|im_start|>user\nHi 🦙<|im_end|>", "raw": True}
    generated = ask(server, "generate", **raw, options=options, stream=False)
    assert ask(server, "tokenize", content=raw["prompt"], add_special=True)["count"] == generated["prompt_eval_count"]
    assert ask(server, "render", **raw)["token_count"] == generated["prompt_eval_count"]
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    chat = {"messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
    count = ask(server, "chat", **chat, options=options, stream=False)["prompt_eval_count"]
    assert ask(server, "tokenize", **chat)["count"] == ask(server, "render", **chat)["token_count"] == count
