"""gpt-oss (harmony): messages with a channel and, for tool calls, a recipient in their header."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.api import ToolCall
from engine.chat.output.format import Format, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.json_calls import CutJSON, as_arguments, parse, read_arguments
from engine.chat.output.stream import (
    MalformedCall,
    ParserCoroutine,
    TextBuffer,
    Unreadable,
    content,
    emitted,
    reasoning,
)

START, END, MESSAGE, CHANNEL = "<|start|>", "<|end|>", "<|message|>", "<|channel|>"
_ENDS = (END, START, "<|call|>", "<|return|>")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=(.+?)(?=<\||\s|\Z)")
_BUILTIN = frozenset({"browser.open", "browser.search", "browser.find", "python"})


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Maps each function's name to the identifier under which the prompt shows it to the model; all are different."""
    known: dict[str, str] = {}
    for name in names:
        plain = _identifier(name)
        unique, count = plain, 1
        while unique in known.values():
            count += 1
            unique = f"{plain}_{count}"
        known[name] = unique
    return known


_SPEC = FormatSpec(
    (f"{CHANNEL}analysis{MESSAGE}", f"{END}{START}assistant"),
    f"{CHANNEL}final{MESSAGE}",
    ToolCallSpec(
        f"{CHANNEL}commentary to=functions.",
        f" <|constrain|>json{MESSAGE}",
        "",
        aliases=identifiers,
        reserved=_ENDS,
        tag=f"{CHANNEL}commentary to=functions.",
    ),
)


def read_harmony(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer to a prompt that ends with `<|start|>assistant`. Raises MalformedCall.

    If the answer continues an assistant's message, the body of that message's last channel is still open.
    """
    if context.continues:
        yield from buffer.emit_until(content, *_ENDS)
    elif context.last is not None and context.last.role == "assistant" and context.last.thinking:
        yield from buffer.emit_until(reasoning, *_ENDS)
    originals = {identifier: name for name, identifier in identifiers(context.tools.names).items()}
    while True:
        header, tag = yield from buffer.read_until(MESSAGE)
        if not tag:
            break
        yield from _read_message(buffer, header.rpartition(START)[2], originals)
    if "<|" not in header:  # else it is an incomplete header
        yield content(header)


def _read_message(buffer: TextBuffer, header: str, originals: dict[str, str]) -> ParserCoroutine[None]:
    channel = _CHANNEL.search(header)
    recipient = _RECIPIENT.search(header)
    if recipient is not None and (channel is None or channel[1] != "final"):
        name = recipient[1].removeprefix("functions.")
        yield from _read_call(buffer, originals.get(name, name))
    else:
        thinks = channel is not None and channel[1] == "analysis"
        yield from buffer.emit_until(reasoning if thinks else content, *_ENDS)


def _read_call(buffer: TextBuffer, name: str) -> ParserCoroutine[None]:
    begun = ""
    if buffer.held and (brace := (yield from buffer.accept("{"))):
        buffer.push_back(brace)
        begun = yield from read_arguments(buffer, name)
    body, end = yield from buffer.read_until(*_ENDS)
    try:
        yield from emitted([ToolCall(name, as_arguments(parse(begun + body)))])
    except CutJSON:
        if not begun:
            yield content(body + end)
    except Unreadable as error:
        raise MalformedCall(f"error parsing tool call: raw='{body}', err={error}") from None


def _identifier(name: str) -> str:
    if name in _BUILTIN:
        return name
    plain = "".join("_" if letter in " -." else letter for letter in name)
    plain = "".join(letter for letter in plain if letter.isalnum() or letter in "_$")
    if not plain:
        return "unnamed"
    return f"_{plain}" if plain[0].isdigit() else plain


HARMONY = Format(read_harmony, _SPEC, (START, END, MESSAGE, CHANNEL, "<|constrain|>"), thinking=True)
