"""Gemma 4: turns of user and model, results inside of the model's turn, reasoning as a channel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.chat.images import in_front_apart, tagged
from engine.chat.renderers.family import Chat, NamedRenderer, last_user
from engine.chat.renderers.gemma4_schema import MARK, declaration
from engine.chat.renderers.gemma_values import GemmaValues
from engine.requests import Message, ToolCall
from modelfile.gotemplate.strings import SPACES

_BOS, _START, _END = "<bos>", "<|turn>", "<turn|>\n"
_THOUGHT, _END_THOUGHT = "<|channel>thought\n", "<channel|>"
_OLD_THOUGHT = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)", re.DOTALL)
_RESPONSE = "<|tool_response>"
_VALUES = GemmaValues(MARK, null="null")


class Gemma4(NamedRenderer):
    """An answer is never continued; behind a result the model goes on in its own turn.

    `closes_thoughts`: without reasoning the prompt ends with an empty channel, as the large models are used to.
    """

    bos = _BOS

    def __init__(self, *, closes_thoughts: bool) -> None:
        self._closes_thoughts = closes_thoughts

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system turn, if there is anything in it, then the others."""
        system, rest = chat.split_system("system", "developer")
        thinks = chat.thinks(unless_said=False)
        yield _BOS
        if system is not None or chat.tools or thinks:
            yield f"{_START}system\n" + ("<|think|>\n" if thinks else "") + (system or "").strip(SPACES)
            yield from map(declaration, chat.tools)
            yield _END
        turns = _turns(tagged(map(_bare, rest), in_front_apart))
        question = last_user([turn.message for turn in turns])
        roles = ["", *(turn.message.role for turn in turns), ""]
        for at, turn in enumerate(turns):
            yield turn.text(roles[at], roles[at + 2], is_new=at > question)
        yield self._opening(turns[-1] if turns else None, thinks)

    def _opening(self, last: _Turn | None, thinks: bool) -> str:
        if last is not None and last.message.tool_calls:
            return _THOUGHT if last.results and thinks else ""
        closed = self._closes_thoughts and not thinks
        return f"{_START}model\n" + (_THOUGHT + _END_THOUGHT if closed else "")


@dataclass(slots=True)
class _Turn:
    """A message, and the results that answer its calls."""

    message: Message
    results: list[Message]

    def text(self, before: str, after: str, *, is_new: bool) -> str:
        """The turn between messages of the roles `before` and `after`; `is_new`: behind the last question."""
        message = self.message
        is_model = message.role == "assistant"
        goes_on = is_model and before == "assistant"
        opening = "" if goes_on else f"{_START}{'model' if is_model else message.role}\n"
        thoughts = f"{_THOUGHT}{message.thinking}\n{_END_THOUGHT}" if is_model and message.thinking and is_new else ""
        calls = "".join(map(_call, message.tool_calls))
        results = "".join(_result(result, message.tool_calls) for result in self.results)
        return opening + thoughts + calls + results + message.content + self._end(after)

    def _end(self, after: str) -> str:
        if self.message.tool_calls and not self.results:
            return _RESPONSE
        goes_on = self.message.role == "assistant" and after == "assistant"
        waits = bool(self.results) and not self.message.content and not after
        return "" if goes_on or waits else _END


def _turns(messages: Sequence[Message]) -> list[_Turn]:
    """The messages as turns; results that answer no call are left out."""
    turns: list[_Turn] = []
    for message in messages:
        if message.role != "tool":
            turns.append(_Turn(message, []))
        elif turns and turns[-1].message.tool_calls:
            turns[-1].results.append(message)
    return turns


def _bare(message: Message) -> Message:
    """The message without blanks around its content, an answer also without thoughts in it."""
    if message.role == "tool":
        return message
    content = _OLD_THOUGHT.sub("", message.content) if message.role == "assistant" else message.content
    return replace(message, content=content.strip(SPACES))


def _call(call: ToolCall) -> str:
    return f"<|tool_call>call:{call.name}{{{_VALUES.members(call.arguments)}}}<tool_call|>"


def _result(result: Message, calls: Sequence[ToolCall]) -> str:
    named = result.tool_name or "unknown"
    if result.tool_call_id:
        named = next((call.name for call in calls if call.id == result.tool_call_id), named)
    return f"{_RESPONSE}response:{named}{{value:{_VALUES.value(result.content)}}}<tool_response|>"
