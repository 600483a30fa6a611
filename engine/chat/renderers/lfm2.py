"""LFM2: ChatML, a list of tools in the system message, calls in Python's notation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import ANSWER, END, END_THINK, START, THINK, Chat, NamedRenderer
from engine.chat.renderers.jsontext import free, parameters_markup, sorted_arguments, spaced_markup, tool_json
from modelfile.conversation import Tool
from modelfile.text import SPACES

_BOS = "<|startoftext|>"
_LIST, _END_LIST = "<|tool_list_start|>", "<|tool_list_end|>"
_CALL, _END_CALL = "<|tool_call_start|>", "<|tool_call_end|>"
_RESPONSE, _END_RESPONSE = "<|tool_response_start|>", "<|tool_response_end|>"


class LFM2(NamedRenderer):
    """Continues the last answer. Cuts off reasoning in the content of earlier ones."""

    bos = _BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        system, rest = chat.split_system("system")
        text = "\n".join(filter(None, (system, _tools(chat.tools))))
        yield _BOS + (f"{START}system\n{text}{END}" if text else "")
        answers = [at for at, message in enumerate(rest) if message.role == "assistant"]
        for at, message in enumerate(tag_images(rest, tags_first_spaced)):
            if message.role == "assistant":
                content = self.answer(message)
                if not self.keeps_reasoning(chat) and at != answers[-1] and END_THINK in content:
                    content = content.rpartition(END_THINK)[2].strip(SPACES)
                yield ANSWER + content + ("" if at == len(rest) - 1 else END)
            else:
                yield f"{START}{message.role}\n{_content(message)}{END}"
        if not chat.messages or chat.messages[-1].role != "assistant":
            yield ANSWER

    def keeps_reasoning(self, chat: Chat) -> bool:
        """Whether the reasoning of earlier answers is shown; LFM2 never shows it."""
        return False

    def answer(self, message: Message) -> str:
        """An answer of the conversation: its calls, then its text."""
        content = message.content
        if not message.tool_calls or _CALL in content:
            return content
        gap = "\n" if content.strip(SPACES) else ""
        return f"{_CALL}[{','.join(map(_call, message.tool_calls))}]{_END_CALL}{gap}{content}"


class LFM2Thinking(LFM2):
    """LFM2 with reasoning before an answer; that of earlier answers only if the request asks for reasoning."""

    def keeps_reasoning(self, chat: Chat) -> bool:
        """Shows earlier reasoning if the request asks for reasoning."""
        return chat.thinks(default=False)

    def answer(self, message: Message) -> str:
        """Puts the reasoning before the calls and the text."""
        content = super().answer(message)
        if message.thinking and END_THINK not in content:
            return f"{THINK}{message.thinking}{END_THINK}{content}"
        return content


def _tools(tools: Sequence[Tool]) -> str:
    return f"List of tools: {_LIST}[{', '.join(map(_definition, tools))}]{_END_LIST}" if tools else ""


def _definition(tool: Tool) -> str:
    """The function alone; the whole definition if it has no name."""
    parameters = parameters_markup(tool)
    if tool.name:
        head = {"name": tool.name} | ({"description": tool.description} if tool.description else {})
        return f'{spaced_markup(head)[:-1]}, "parameters": {parameters}}}'
    return spaced_markup(tool_json(tool))


def _content(message: Message) -> str:
    if message.role == "tool" and _RESPONSE not in message.content:
        return _RESPONSE + message.content + _END_RESPONSE
    return message.content


def _call(call: ToolCall) -> str:
    arguments = (f"{name}={spaced_markup(free(value))}" for name, value in sorted_arguments(call))
    return f"{call.name}({','.join(arguments)})"
