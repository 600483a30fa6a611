"""Ask a running server what was asked of a real Ollama, and say where the answers differ.

Each case tells how strictly it is compared: `exact` means status, content type, keys, types and values, except for
what differs from run to run; `shape` keys and types; `status` status and content type. A stream is compared as what it
adds up to, because where its chunks are cut is free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

from tests.golden.allowed import ADDITIONS

Case = dict[str, Any]
Answer = dict[str, Any]

VOLATILE = {
    *("created_at", "modified_at", "expires_at", "created", "completed_at"),
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
    *("id", "request_id", "item_id", "call_id", "tool_use_id", "sequence_number"),
    *("size", "size_vram", "digest", "version", "system_fingerprint", "cached_tokens"),
}
"""Keys whose values differ from run to run: only their types are compared."""

_HEADERS = (
    "allow",
    "location",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-max-age",
)
_RANDOM = re.compile(r"call_[a-z0-9]+|[^\s\"']*?blobs[/\\]|sha256[:-][0-9a-f]{64}")


def fill(value: Any, substitutions: dict[str, str]) -> Any:
    """`value` with the placeholders of a recording replaced."""
    if isinstance(value, str):
        for name, text in substitutions.items():
            value = value.replace(name, text)
        return value
    if isinstance(value, list):
        return [fill(item, substitutions) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, substitutions) for key, item in value.items()}
    return value


def ask(client: httpx.Client, case: Case, substitutions: dict[str, str]) -> Answer:
    """The server's answer to a case, in the form in which answers are recorded."""
    body = fill(case["body"], substitutions)
    headers = dict(case["headers"])
    content = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    if isinstance(body, dict | list):
        headers.setdefault("Content-Type", "application/json")
    request = client.build_request(case["method"], fill(case["path"], substitutions), content=content, headers=headers)
    response = client.send(request, follow_redirects=False)
    answer: Answer = {"status": response.status_code, "headers": dict(response.headers)}
    kind = response.headers.get("content-type", "")
    if "ndjson" in kind:
        answer["lines"] = [json.loads(line) for line in response.text.splitlines() if line.strip()]
    elif "event-stream" in kind:
        answer["events"] = [event for block in response.text.split("\n\n") if (event := _event(block))]
    elif "json" in kind and response.text.strip():
        answer["json"] = response.json()
    else:
        answer["text"] = response.text
    return answer


def differences(wanted: Answer, got: Answer, strictness: str) -> list[str]:
    """Where an answer is not as recorded; empty if it is."""
    if wanted["status"] != got["status"]:
        return [f"status {got['status']}, not {wanted['status']} ({str(summed_up(got))[:200]})"]
    found = []
    if _content_type(wanted) != _content_type(got):
        found.append(f"content-type {_content_type(got)}, not {_content_type(wanted)}")
    if strictness == "status":
        return found
    for name in _HEADERS:
        if wanted["headers"].get(name) != got["headers"].get(name):
            found.append(f"header {name}: {got['headers'].get(name)}, not {wanted['headers'].get(name)}")
    return found + list(_compare(summed_up(wanted), summed_up(got), exact=strictness == "exact", path=""))


def summed_up(answer: Answer) -> Any:
    """An answer without the borders of its chunks."""
    if answer.get("lines"):
        return _sum_lines(answer["lines"])
    if "events" in answer:
        return _sum_events(answer["events"])
    return answer.get("json", answer.get("text"))


def _event(block: str) -> dict[str, Any] | None:
    name, data = None, []
    for line in block.split("\n"):
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())
    text = "\n".join(data)
    return {"event": name, "data": json.loads(text) if text.startswith("{") else text} if name or data else None


def _sum_lines(lines: list[dict[str, Any]]) -> dict[str, Any]:
    if "response" not in lines[0] and "message" not in lines[0]:
        statuses: list[Any] = []
        for line in lines:
            status = line.get("status") or line
            if status not in statuses:
                statuses.append(status)
        return {"progress": statuses}
    messages = [line.get("message") or {} for line in lines]
    return {
        "text": "".join(line.get("response", "") for line in lines),
        "thinking": "".join(
            line.get("thinking", "") or message.get("thinking", "")
            for line, message in zip(lines, messages, strict=True)
        ),
        "content": "".join(message.get("content", "") for message in messages),
        "calls": [call for message in messages for call in message.get("tool_calls") or []],
        "mid_keys": sorted({key for line in lines[:-1] for key in line}),
        "final": {key: value for key, value in lines[-1].items() if key not in ("response", "message")},
    }


def _sum_events(events: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"kinds": [], "text": "", "thinking": "", "args": "", "finish": None}
    for event in events:
        data = event["data"]
        kind = event["event"] or (data.get("object") if isinstance(data, dict) else data)
        if total["kinds"][-1:] != [kind]:
            total["kinds"].append(kind)
        if isinstance(data, dict):
            _add_event(total, data)
    return total


def _add_event(total: dict[str, Any], data: dict[str, Any]) -> None:
    for choice in data.get("choices") or []:
        delta = choice.get("delta") or {}
        total["text"] += delta.get("content") or choice.get("text") or ""
        total["thinking"] += delta.get("reasoning") or ""
        for call in delta.get("tool_calls") or []:
            total["args"] += json.dumps([call["function"].get("name"), call["function"].get("arguments")])
        total["finish"] = choice.get("finish_reason") or total["finish"]
    delta = data.get("delta")
    if isinstance(delta, str):
        total["text"] += delta
    elif isinstance(delta, dict):
        total["text"] += delta.get("text") or ""
        total["thinking"] += delta.get("thinking") or ""
        total["args"] += delta.get("partial_json") or ""
        total["finish"] = delta.get("stop_reason") or total["finish"]


def _compare(wanted: Any, got: Any, *, exact: bool, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(got, dict):
        yield from _compare_dicts(wanted, got, exact=exact, path=path)
    elif isinstance(wanted, list) and isinstance(got, list):
        yield from _compare_lists(wanted, got, exact=exact, path=path)
    elif not _same_type(wanted, got):
        yield f"{path} {json.dumps(got)[:160]}, not {json.dumps(wanted)[:160]}"
    elif path.endswith((".parameters", ".modelfile")):  # Ollama prints a map's entries in random order
        if sorted(_settled(wanted).split("\n")) != sorted(_settled(got).split("\n")):
            yield f"{path} {json.dumps(got)[:300]}, not {json.dumps(wanted)[:300]}"
    elif exact and not _same_value(wanted, got):
        yield f"{path} {json.dumps(got)[:160]}, not {json.dumps(wanted)[:160]}"


def _compare_dicts(wanted: dict[str, Any], got: dict[str, Any], *, exact: bool, path: str) -> Iterator[str]:
    for key, value in wanted.items():
        place = f"{path}.{key}"
        if key not in got:
            yield f"{place} missing"
        elif key not in VOLATILE:
            yield from _compare(value, got[key], exact=exact, path=place)
        elif not _same_type(value, got[key]):
            yield f"{place} type {type(got[key]).__name__}, not {type(value).__name__}"
    yield from (f"{path}.{key} extra" for key in got if key not in wanted and key not in ADDITIONS)


def _compare_lists(wanted: list[Any], got: list[Any], *, exact: bool, path: str) -> Iterator[str]:
    if path.endswith("capabilities"):
        wanted, got = sorted(wanted), sorted(got)
    if path.endswith("tensors"):
        wanted, got = (sorted(tensors, key=lambda tensor: str(tensor["name"])) for tensors in (wanted, got))
    if exact and len(wanted) != len(got):
        yield f"{path} length {len(got)}, not {len(wanted)}"
    for index, (one, other) in enumerate(zip(wanted, got, strict=False)):
        yield from _compare(one, other, exact=exact, path=f"{path}[{index}]")


def _same_type(wanted: Any, got: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (wanted, got)]
    return all(numbers) or type(wanted) is type(got)


def _same_value(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return bool(abs(wanted - got) <= 1e-3 * max(1, abs(wanted)))
    return bool(_settled(wanted) == _settled(got))


def _settled(value: Any) -> Any:
    return _RANDOM.sub("*", value) if isinstance(value, str) else value


def _content_type(answer: Answer) -> str:
    return str(answer["headers"].get("content-type", "")).split(";")[0]
