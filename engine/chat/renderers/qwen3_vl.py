"""Qwen3-VL: ChatML with images, tools and calls as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import ANSWER, END, END_THINK, START, THINK, Chat, NamedRenderer, chatml, fold_results
from engine.chat.renderers.jsontext import arguments_json, spaced, tool_json
from engine.chat.renderers.qwen import last_question, results_text
from modelfile.conversation import Tool

_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_CALL_FORMAT = (
    "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


class Qwen3VL(NamedRenderer):
    """Continues the last answer. Shows reasoning only after the last question.

    `thinks`: whether the model reasons if the request does not say.
    """

    def __init__(self, *, thinks: bool) -> None:
        self._thinks = thinks

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        system, rest = chat.split_system("system")
        yield _system(system, chat.tools)
        thinks = chat.thinks(default=self._thinks)
        messages = fold_results(tag_images(rest, tags_first_spaced), results_text)
        question = last_question(messages)
        for at, message in enumerate(messages):
            is_last = at == len(messages) - 1
            if message.role == "assistant":
                yield ANSWER + _answer(message, is_last, thinks and at > question) + ("" if is_last else END)
            else:
                yield _message_text(message)
        if chat.messages and chat.messages[-1].role != "assistant":
            yield f"{ANSWER}{THINK}\n" if thinks else ANSWER


def _system(text: str | None, tools: Sequence[Tool]) -> str:
    if not tools:
        return "" if text is None else chatml("system", text)
    definitions = "".join(f"\n{spaced(tool_json(tool))}" for tool in tools)
    return chatml("system", ("" if text is None else f"{text}\n\n") + _TOOLS + definitions + _CALL_FORMAT)


def _message_text(message: Message) -> str:
    if message.role == "tool":
        return f"{START}user{message.content}{END}"
    return chatml(message.role, message.content) if message.role in ("user", "system") else ""


def _answer(message: Message, is_last: bool, with_reasoning: bool) -> str:
    content = message.content
    calls = "\n".join(map(_call, message.tool_calls))
    gap = "\n" if calls and content else ""
    if with_reasoning and (is_last or message.thinking):
        reasoning = message.thinking.strip("\n")
        end = f"\n{END_THINK}\n\n" if content else ""
        content = f"{THINK}\n{reasoning}{end}" + content.lstrip("\n")
    return content + gap + calls


def _call(call: ToolCall) -> str:
    return f'<tool_call>\n{{"name": "{call.name}", "arguments": {spaced(arguments_json(call))}}}\n</tool_call>'
