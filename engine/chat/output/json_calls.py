"""JSON inside an answer: where an object ends, its value, the tool calls in it, and Go's words for its faults."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from engine.api import CallPart, Delta, ToolCall
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable
from engine.chat.output.toolset import ToolSet

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_BRACKETS = re.compile(r'"(?:\\.|[^"\\])*"|[][{}]', re.DOTALL)
_PLACES = {
    "Expecting property name": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting value": "looking for beginning of value",
    "Expecting ':'": "after object key",
    "Extra data": "after top-level value",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX": "in \\u hexadecimal character escape",
}
"""Python's words for a fault, and Go's."""


class BadJSON(Unreadable):
    """The text is not JSON; `str()` is the message of Go's decoder, which clients see."""


class CutJSON(BadJSON):
    """The text ends before its value does."""

    def __init__(self) -> None:
        super().__init__("unexpected end of JSON input")


def parse(text: str) -> Any:
    """The value of a JSON text. Raises BadJSON.

    Lone surrogates become U+FFFD, infinite numbers the largest finite ones. Strings may hold raw line breaks, because
    models write them.
    """
    try:
        return _DECODER.decode(_ESCAPE.sub(lambda match: r"\ufffd" if match[1] else match[0], text))
    except json.JSONDecodeError as error:
        raise _in_go_words(error) from None
    except RecursionError:
        raise BadJSON("exceeded max depth") from None
    except ValueError as error:
        raise BadJSON(str(error)) from None


def read_object(buffer: TextBuffer, stop: str = "") -> ParserCoroutine[tuple[str, bool]]:
    """Consume the object at the start of the buffer; return its text, and whether it is complete.

    It is incomplete if the answer ends first, or `stop` comes first outside of a string; `stop` is not consumed.
    """
    scan = _ObjectEnd(stop)
    while (end := scan.find(buffer.text)) is None and not buffer.ended:
        yield None
    if end is None:
        return buffer.take(len(buffer.text)), False
    return buffer.take(end), scan.depth == 0


def read_arguments(buffer: TextBuffer, name: str, call_id: str = "") -> ParserCoroutine[str]:
    """Consume the object at the start of the buffer, the arguments of a call that is held; return its text.

    It is emitted as it arrives, in parts of the call.
    """
    yield _part(CallPart(0, id=call_id, name=name))
    scan, pieces = _ObjectEnd(""), list[str]()
    while True:
        end = scan.find(buffer.text)
        if end is None and not buffer.ended:
            pieces.append(buffer.take(scan.restart()))
        else:
            pieces.append(buffer.take(len(buffer.text) if end is None else end))
        if pieces[-1]:
            yield _part(CallPart(0, pieces[-1]))
        if end is not None or buffer.ended:
            return "".join(pieces)
        yield None


def read_held_call(buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[tuple[str, bool, bool]]:
    """Consume the object at the start of the buffer, which is a call that is held.

    Returns its text, whether it is complete, and whether parts of the call were emitted: its arguments are as they
    arrive, if it begins as grammars have it, with the name of a tool and then the arguments.
    """
    scan = _ObjectEnd("")
    while (match := _CALL.match(buffer.text)) is None and scan.find(buffer.text) is None and not buffer.ended:
        yield None
    name = parse(f'"{match["name"] or match["key"]}"') if match else ""
    if match is None or name not in tools:
        body, complete = yield from read_object(buffer)
        return body, complete, False
    head = buffer.take(match.end())
    arguments = yield from read_arguments(buffer, name)
    rest, brace = yield from buffer.read_until("}")
    return head + arguments + rest + brace, bool(brace), True


def _part(part: CallPart) -> Delta:
    return Delta(call_parts=(part,))


class _ObjectEnd:
    """Finds the end of the object at the start of a growing text; scans each character once."""

    def __init__(self, stop: str) -> None:
        self.depth = 0
        self._quoted = False
        self._seen = 0
        self._stop = stop
        self._marks = re.compile(rf'\\.|["{{}}]{"|" + re.escape(stop) if stop else ""}', re.DOTALL)

    def find(self, text: str) -> int | None:
        """Length of the object, or position of the stop; None while the text has neither."""
        for match in self._marks.finditer(text, self._seen):
            self._seen = match.end()
            if self._quoted:
                self._quoted = match[0] != '"'
            elif match[0] == self._stop:
                return match.start()
            elif self._count(match[0]):
                return match.end()
        # What could be the start of a longer token is scanned again.
        self._seen = max(self._seen, len(text) - max(1, len(self._stop) - 1))
        return None

    def restart(self) -> int:
        """The length of the text that was scanned for good. The next text is the rest, with more behind it."""
        length, self._seen = self._seen, 0
        return length

    def _count(self, mark: str) -> bool:
        self._quoted = mark == '"'
        self.depth += {"{": 1, "}": -1}.get(mark, 0)
        return mark == "}" and self.depth == 0


def _in_go_words(error: json.JSONDecodeError) -> BadJSON:
    if error.msg.startswith("Unterminated"):
        return CutJSON()
    at = error.pos + ("escape" in error.msg or "trailing comma" in error.msg)
    while at < len(error.doc) and error.doc[at] in " \t\r\n":
        at += 1
    if at >= len(error.doc):
        return CutJSON()
    place = next((words for start, words in _PLACES.items() if error.msg.startswith(start)), None)
    shown = error.doc[at] if error.doc[at] == '"' else json.dumps(error.doc[at], ensure_ascii=False)[1:-1]
    return BadJSON(f"invalid character '{shown}' {place or _after_item(error.doc[:at])}")


def _after_item(text: str) -> str:
    """Go's words for a missing comma at the end of `text`."""
    open_brackets = []
    for match in _BRACKETS.finditer(text):
        if match[0] in "{[":
            open_brackets.append(match[0])
        elif match[0] in "}]":
            open_brackets.pop()
    return "after array element" if open_brackets[-1] == "[" else "after object key:value pair"


def _refuse(constant: str) -> None:
    raise ValueError(f"invalid character '{constant[0]}' looking for beginning of value")  # NaN is Python's, not JSON's


def _finite(text: str) -> float:
    """A finite number: an infinite one could not be written as JSON again."""
    return max(-sys.float_info.max, min(float(text), sys.float_info.max))


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)


# Tool calls as JSON objects, with all keys that models use.

_CALL = re.compile(
    r"""\{\s*(?:(?:"tool_call_id":\s*"[^"]*",\s*)?"(?:name|tool_name)":\s*"(?P<name>(?:[^"\\]|\\.)*)",\s*"""
    r""""(?:arguments|parameters)"|"(?P<key>(?:[^"\\]|\\.)*)"):\s*(?=\{)"""
)
_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")


class NotACall(Unreadable):
    """Valid JSON, but no tool call."""


def read_call(value: dict[str, Any]) -> ToolCall:
    """The call in an object with a name; arguments may be missing. Raises Unreadable."""
    if not (name := name_of(value)):
        raise NotACall("empty function name")
    arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    return ToolCall(name, as_arguments(arguments))


def read_calls(value: Any, tools: ToolSet) -> list[ToolCall]:
    """The calls in a JSON value: `{name, arguments}` or `{tool: arguments}`, at the top or nested.

    Raises Unreadable if there is none.
    """
    if isinstance(value, dict) and name_of(value):
        return [read_call(value)]
    if isinstance(value, dict) and (named := [name for name in value if name in tools]):
        return [ToolCall(name, as_arguments(value[name])) for name in named]
    calls = [call for child in _children(value) for call in _calls_inside(child, tools)]
    if not calls:
        raise NotACall("empty function name")
    return calls


def name_of(value: dict[str, Any]) -> str:
    """The function's name in an object, "" if it has none."""
    return next((name for key in _NAME_KEYS if isinstance(name := value.get(key), str) and name), "")


def has_arguments(value: dict[str, Any]) -> bool:
    """Whether an object has a key for arguments."""
    return any(key in value for key in _ARGUMENT_KEYS)


def as_arguments(value: Any) -> dict[str, Any]:
    """Arguments as an object: JSON in a string is parsed, null and "" are empty. Raises Unreadable for all else."""
    if isinstance(value, str):
        value = parse(value or "{}")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotACall("arguments are not an object")
    return value


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _calls_inside(value: Any, tools: ToolSet) -> list[ToolCall]:
    try:
        return read_calls(value, tools)
    except Unreadable:
        return []
