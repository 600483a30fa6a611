"""Functionary, and others that write a function's name first and then its arguments as JSON."""

from __future__ import annotations

from engine.api import ToolCall
from engine.chat.output.format import CallShape, Shape, Turn
from engine.chat.output.json_calls import as_arguments, parse, read_object
from engine.chat.output.stream import Script, Tape, Unreadable, content, emitted

RECIPIENT = ">>>"
FUNCTION, END_FUNCTION = "<function=", "</function>"

SHAPE = Shape(content="all\n", calls=CallShape("", "\n", "", between=RECIPIENT))
SHAPE_TAGS = Shape(calls=CallShape(FUNCTION, ">", END_FUNCTION, between="", reserved=(END_FUNCTION,)))
SHAPE_LINE = Shape(calls=CallShape("", "\n", ""))


def read_functionary(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer of Functionary 3.2, a text `>>>all` or calls `>>>f`; the prompt ends with the first mark."""
    yield from tape.accept(RECIPIENT)
    tag = RECIPIENT
    while tag:
        if not (yield from tape.accept("all\n")):
            yield from _read_named(tape, turn)
        tag = yield from tape.pour(content, RECIPIENT, trim=True)


def read_glm4(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer of GLM-4, either a call or content."""
    yield from tape.accept("\n")
    yield from _read_named(tape, turn)
    yield from tape.pour(content)


def read_function_tags(tape: Tape, turn: Turn) -> Script[None]:
    """Read the content of an answer of Functionary 3.1: `<function=f>{…}</function>`."""
    while (yield from tape.pour(content, FUNCTION, trim=True)):
        body, end = yield from tape.until(END_FUNCTION)
        name, _, arguments = body.partition(">")
        try:
            calls = [ToolCall(name, as_arguments(arguments.strip()))] if end else []
        except Unreadable:
            calls = []
        yield from emitted(calls)
        if not calls:
            yield content(FUNCTION + body + end)


def _read_named(tape: Tape, turn: Turn) -> Script[None]:
    """Emit a call if the text begins with the name of a tool on a line of its own."""
    if not (head := (yield from tape.accept(*(f"{name}\n" for name in turn.tools.names)))):
        return
    head += yield from tape.skip_space()
    brace = yield from tape.accept("{")
    tape.unread(brace)
    body, _ = (yield from read_object(tape, RECIPIENT)) if brace else ("", False)
    try:
        yield from emitted([ToolCall(head.rstrip(), as_arguments(parse(body)))])
    except Unreadable:
        yield content(head + body)
