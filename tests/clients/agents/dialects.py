"""One agent's conversation in each dialect, with what the real agents put around it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import httpx

from tests.clients.agents.tools import ANTHROPIC_TOOLS, CHAT_TOOLS, RESPONSES_TOOLS

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: its id, "" where the dialect has none, and its arguments as they were sent."""

    id: str
    name: str
    arguments: Object


@dataclass(slots=True)
class Answer:
    """What came in one stream. `raw` is what the agent sends back as the assistant's part of the conversation."""

    text: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    end: str = ""
    raw: list[Object] = field(default_factory=list)


class Agent(ABC):
    """A conversation with a model. `client` has the server's address."""

    path: str

    def __init__(self, client: httpx.Client, model: str, system: str) -> None:
        self.client = client
        self.model = model
        self.system = system
        self.history: list[Object] = []
        self.requests = 0  # sent until now

    def ask(self, *, think: bool, most: int, tool: str = "") -> Answer:
        """Let the model go on, with `tool` by a call of it, and keep the answer in the history."""
        answer = self.read(self.events(self.body(think=think, most=most, tool=tool)))
        self.history += answer.raw
        return answer

    def leave(self, events: int, most: int) -> None:
        """Let the model go on and leave after some events of its answer; nothing is kept."""
        with closing(self.events(self.body(think=True, most=most, tool=""))) as stream:
            for _ in islice(stream, events):
                pass

    def title(self, text: str, model: str = "") -> httpx.Response:
        """Ask for a title of the conversation: a small prompt of another kind."""
        return self.client.post(self.path, json=self.title_body(text) | {"model": model or self.model})

    def events(self, body: Object) -> Generator[Object]:
        """The objects of the answer's stream."""
        self.requests += 1
        with self.client.stream("POST", self.path, json=body) as response:
            if response.status_code != 200:
                raise AssertionError(response.read().decode())
            for line in response.iter_lines():
                data = line.removeprefix("data: ") if line.startswith(("data: ", "{")) else ""
                if data and data != "[DONE]":
                    yield json.loads(data)

    @abstractmethod
    def body(self, *, think: bool, most: int, tool: str) -> Object:
        """The request for the next answer."""

    @abstractmethod
    def title_body(self, text: str) -> Object:
        """The request for a title."""

    @abstractmethod
    def read(self, events: Iterator[Object]) -> Answer:
        """The answer in a stream."""

    @abstractmethod
    def user(self, text: str) -> None:
        """The user says something."""

    @abstractmethod
    def results(self, calls: list[Call], texts: list[str]) -> None:
        """The tools return texts."""

    @abstractmethod
    def replay(self, thinking: str, text: str, calls: list[Call]) -> list[Call]:
        """Put a turn of the assistant in the history, as if the model had answered so. Returns the calls."""

    @abstractmethod
    def error_text(self, error: Object) -> str:
        """The message of an error in the dialect's own shape."""


class OllamaAgent(Agent):
    """As VS Code's chat speaks to Ollama."""

    path = "/api/chat"

    def body(self, *, think: bool, most: int, tool: str) -> Object:
        choice: Object = {"tool_choice": {"type": "function", "function": {"name": tool}}} if tool else {}
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": self.system}, *self.history],
            "tools": CHAT_TOOLS,
            "think": think,
            "stream": True,
            "options": {"num_predict": most, "temperature": 0},
            **choice,
        }

    def title_body(self, text: str) -> Object:
        messages = [{"role": "system", "content": "Write a title."}, {"role": "user", "content": text}]
        return {"messages": messages, "think": False, "stream": False, "options": {"num_predict": 8}}

    def read(self, events: Iterator[Object]) -> Answer:
        answer = Answer()
        sent: list[Object] = []
        for event in events:
            assert "error" not in event, event
            message = event["message"]
            answer.text += message["content"]
            answer.thinking += message.get("thinking", "")
            sent += message.get("tool_calls", [])
            if event["done"]:
                answer.prompt_tokens, answer.tokens = event["prompt_eval_count"], event["eval_count"]
                answer.cached_tokens = event.get("prompt_eval_cached", 0)
                answer.end = event["done_reason"]
        answer.calls = [
            Call(call.get("id", ""), call["function"]["name"], call["function"]["arguments"]) for call in sent
        ]
        message = {"role": "assistant", "content": answer.text, "thinking": answer.thinking, "tool_calls": sent}
        answer.raw = [{key: value for key, value in message.items() if value or key == "content"}]
        return answer

    def user(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def results(self, calls: list[Call], texts: list[str]) -> None:
        for call, text in zip(calls, texts, strict=True):
            self.history.append({"role": "tool", "content": text, "tool_name": call.name})

    def replay(self, thinking: str, text: str, calls: list[Call]) -> list[Call]:
        sent = [{"function": {"name": call.name, "arguments": call.arguments}} for call in calls]
        self.history.append({"role": "assistant", "content": text, "thinking": thinking, "tool_calls": sent})
        return calls

    def error_text(self, error: Object) -> str:
        (text,) = error.values()
        return str(text)


class ChatAgent(Agent):
    """As VS Code, Continue, OpenCode and Cline speak to OpenAI's Chat Completions."""

    path = "/v1/chat/completions"

    def body(self, *, think: bool, most: int, tool: str) -> Object:
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": self.system}, *self.history],
            "tools": CHAT_TOOLS,
            "tool_choice": {"type": "function", "function": {"name": tool}} if tool else "auto",
            "reasoning_effort": "medium" if think else "none",
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": most,
            "temperature": 0,
        }

    def title_body(self, text: str) -> Object:
        messages = [{"role": "system", "content": "Write a title."}, {"role": "user", "content": text}]
        return {"messages": messages, "reasoning_effort": "none", "max_tokens": 8}

    def read(self, events: Iterator[Object]) -> Answer:
        answer = Answer()
        sent: list[Object] = []
        for event in events:
            if usage := event.get("usage"):
                answer.prompt_tokens, answer.tokens = usage["prompt_tokens"], usage["completion_tokens"]
                answer.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
            for choice in event["choices"]:
                delta = choice["delta"]
                answer.text += delta.get("content") or ""
                answer.thinking += delta.get("reasoning_content") or ""
                answer.end = choice["finish_reason"] or answer.end
                for part in delta.get("tool_calls") or []:
                    if part["index"] == len(sent):
                        sent.append({"id": part["id"], "type": "function", "function": {"name": "", "arguments": ""}})
                    for key, value in part["function"].items():
                        sent[part["index"]]["function"][key] += value
        answer.calls = [
            Call(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in sent
        ]
        message = {"content": answer.text or None, "reasoning_content": answer.thinking, "tool_calls": sent}
        answer.raw = [{"role": "assistant", **{key: value for key, value in message.items() if value}}]
        if not (answer.text or sent):
            answer.raw[0]["content"] = ""
        return answer

    def user(self, text: str) -> None:
        self.history.append({"role": "user", "content": [{"type": "text", "text": text}]})

    def results(self, calls: list[Call], texts: list[str]) -> None:
        for call, text in zip(calls, texts, strict=True):
            self.history.append({"role": "tool", "content": text, "tool_call_id": call.id})

    def replay(self, thinking: str, text: str, calls: list[Call]) -> list[Call]:
        sent = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
        message = {"role": "assistant", "content": text, "reasoning_content": thinking, "tool_calls": sent}
        self.history.append(message)
        return calls

    def error_text(self, error: Object) -> str:
        assert set(error["error"]) == {"message", "type", "param", "code"}
        return str(error["error"]["message"])


class CodexAgent(Agent):
    """As Codex speaks to the Responses API."""

    path = "/v1/responses"

    def body(self, *, think: bool, most: int, tool: str) -> Object:
        return {
            "model": self.model,
            "instructions": self.system,
            "input": self.history,
            "tools": RESPONSES_TOOLS,
            "tool_choice": {"type": "function", "name": tool} if tool else "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium" if think else "none", "summary": "auto"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "0196b1c2-0000-7000-8000-000000000000",
            "max_output_tokens": most,
            "temperature": 0,
        }

    def title_body(self, text: str) -> Object:
        return {
            "instructions": "Write a title.",
            "input": text,
            "reasoning": {"effort": "none"},
            "store": False,
            "max_output_tokens": 8,
        }

    def read(self, events: Iterator[Object]) -> Answer:
        answer = Answer()
        for event in events:
            assert event["type"] != "error", event
            if event["type"] == "response.output_item.done":
                answer.raw.append(event["item"])
            elif event["type"] in ("response.completed", "response.incomplete"):
                response = event["response"]
                assert response["output"] == answer.raw
                usage = response["usage"]
                answer.prompt_tokens, answer.tokens = usage["input_tokens"], usage["output_tokens"]
                answer.cached_tokens = usage["input_tokens_details"]["cached_tokens"]
                answer.end = response["status"]
        for item in answer.raw:
            if item["type"] == "message":
                answer.text += item["content"][0]["text"]
            elif item["type"] == "reasoning":
                answer.thinking += item["encrypted_content"]
            else:
                answer.calls.append(Call(item["call_id"], item["name"], json.loads(item["arguments"])))
        return answer

    def user(self, text: str) -> None:
        self.history.append({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})

    def results(self, calls: list[Call], texts: list[str]) -> None:
        for call, text in zip(calls, texts, strict=True):
            self.history.append({"type": "function_call_output", "call_id": call.id, "output": text})

    def replay(self, thinking: str, text: str, calls: list[Call]) -> list[Call]:
        content = [{"type": "output_text", "text": text}]
        self.history += [
            {"type": "reasoning", "summary": [], "content": None, "encrypted_content": thinking},
            {"type": "message", "role": "assistant", "content": content},
        ]
        self.history += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json.dumps(call.arguments)}
            for call in calls
        ]
        return calls

    def error_text(self, error: Object) -> str:
        assert set(error["error"]) == {"message", "type", "param", "code"}
        return str(error["error"]["message"])


class ClaudeAgent(Agent):
    """As Claude Code speaks to Anthropic's API."""

    path = "/v1/messages?beta=true"

    def _system(self, text: str) -> list[Object]:
        """The first block changes at each request."""
        billing = f"x-anthropic-billing-header: cc_version=2.1.3.abc; cc_entrypoint=cli; cch={self.requests:05x};"
        return [
            {"type": "text", "text": billing},
            {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}},
        ]

    def body(self, *, think: bool, most: int, tool: str) -> Object:
        messages: list[Object] = json.loads(json.dumps(self.history))
        for message in messages[-2:]:  # the marks move with the conversation
            message["content"][-1]["cache_control"] = {"type": "ephemeral"}
        return {
            "model": self.model,
            "max_tokens": most,
            "system": self._system(self.system),
            "messages": messages,
            "tools": ANTHROPIC_TOOLS,
            "tool_choice": {"type": "tool", "name": tool} if tool else {"type": "auto"},
            "metadata": {"user_id": "user_0_account__session_0"},
            "thinking": {"type": "enabled", "budget_tokens": 1024} if think else {"type": "disabled"},
            "stream": True,
            "temperature": 0,
        }

    def title_body(self, text: str) -> Object:
        return {
            "max_tokens": 8,
            "system": self._system("Write a title."),
            "messages": [{"role": "user", "content": text}],
            "thinking": {"type": "disabled"},
        }

    def read(self, events: Iterator[Object]) -> Answer:
        answer = Answer()
        written = ""
        for event in events:
            assert event["type"] != "error", event
            if event["type"] == "content_block_start":
                answer.raw.append(event["content_block"])
                written = ""
            elif event["type"] == "content_block_delta":
                block, delta = answer.raw[event["index"]], event["delta"]
                match delta["type"]:
                    case "input_json_delta":
                        written += delta["partial_json"]
                    case kind:
                        key = kind.removesuffix("_delta")
                        block[key] += delta[key]
            elif event["type"] == "content_block_stop" and answer.raw[event["index"]]["type"] == "tool_use":
                answer.raw[event["index"]]["input"] = json.loads(written or "{}")
            elif event["type"] == "message_delta":
                usage = event["usage"]
                answer.cached_tokens = usage["cache_read_input_tokens"]
                answer.prompt_tokens = usage["input_tokens"] + answer.cached_tokens
                answer.tokens = usage["output_tokens"]
                answer.end = event["delta"]["stop_reason"]
        for block in answer.raw:
            answer.text += block.get("text", "")
            answer.thinking += block.get("thinking", "")
            if block["type"] == "tool_use":
                answer.calls.append(Call(block["id"], block["name"], block["input"]))
        answer.raw = [{"role": "assistant", "content": answer.raw}] if answer.raw else []
        return answer

    def user(self, text: str) -> None:
        self._add({"type": "text", "text": text})

    def results(self, calls: list[Call], texts: list[str]) -> None:
        for call, text in zip(calls, texts, strict=True):
            self._add({"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": text}]})

    def _add(self, block: Object) -> None:
        """Add to the user's message at the end."""
        if not self.history or self.history[-1]["role"] != "user":
            self.history.append({"role": "user", "content": []})
        self.history[-1]["content"].append(block)

    def replay(self, thinking: str, text: str, calls: list[Call]) -> list[Call]:
        content = [
            {"type": "thinking", "thinking": thinking, "signature": "c2lnbmVk"},
            {"type": "text", "text": text},
            *({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in calls),
        ]
        self.history.append({"role": "assistant", "content": content})
        return calls

    def error_text(self, error: Object) -> str:
        assert (error["type"], set(error["error"])) == ("error", {"type", "message"})
        assert error["error"]["type"] == "not_found_error"
        return str(error["error"]["message"])


AGENTS: dict[str, type[Agent]] = {
    "ollama": OllamaAgent,
    "chat completions": ChatAgent,
    "responses": CodexAgent,
    "messages": ClaudeAgent,
}
