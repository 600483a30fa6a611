"""DeepSeek V3.1, and the tokens that Cogito shares with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.renderers.family import END_THINK, THINK, Chat, NamedRenderer, fold_results, last_user
from engine.chat.renderers.jsontext import arguments_json, compact, indented, parameters_json, tool_json
from modelfile.conversation import Tool

BOS, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
_TOOLS = "\n\n## Tools\nYou have access to the following tools:\n"
_CALL_FORMAT = (
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
    "{{additional_tool_calls}}<｜tool▁calls▁end｜>\n\n"
    "Where:\n\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n"
)


class DeepSeek31(NamedRenderer):
    """Never continues an answer. After a tool's result the prompt has no opening of a new answer."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """All system texts and the tools, then the messages."""
        yield BOS + "\n\n".join(message.content for message in chat.messages if message.role == "system")
        yield _tools(chat.tools) if chat.tools else ""
        thinks = chat.thinks(default=False)
        messages = [message for message in chat.messages if message.role in ("user", "assistant", "tool")]
        question = last_user(messages)
        previous = ""
        for at, message in enumerate(messages):
            if message.role == "assistant":
                yield _answer(message, previous, thinks and at > question)
            else:
                yield result_text(message) if message.role == "tool" else USER + message.content
            previous = message.role
        if previous == "user":
            yield ASSISTANT + (THINK if thinks else END_THINK)


def calls_text(calls: str) -> str:
    """A block of calls."""
    return f"<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>"


def result_text(result: Message) -> str:
    """A tool's result."""
    return f"<｜tool▁output▁begin｜>{result.content}<｜tool▁output▁end｜>"


def _tools(tools: Sequence[Tool]) -> str:
    return _TOOLS + "".join(map(_definition, tools)) + _CALL_FORMAT


def _definition(tool: Tool) -> str:
    parameters = compact(parameters_json(tool))
    return f"\n### {tool.name}\nDescription: {tool.description}\n\nParameters: {parameters}\n"


def _answer(message: Message, previous: str, is_new: bool) -> str:
    """An answer to the message of role `previous`; reasoning that a client left in the content is cut off."""
    content = message.content
    if message.tool_calls:
        opening = END_THINK
        content += calls_text("".join(map(_call, message.tool_calls)))
    else:
        opening = THINK if is_new and message.thinking else END_THINK
        if previous != "tool" and END_THINK in content:
            content = content.partition(END_THINK)[2]
    return (ASSISTANT + opening if previous == "user" else "") + content + END


def _call(call: ToolCall) -> str:
    arguments = compact(arguments_json(call))
    return f"<｜tool▁call▁begin｜>{call.name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"


# Cogito: DeepSeek's tokens, with a preamble of its own.

_PREAMBLE = (
    "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in San Francisco."
)
_DEEP = "Enable deep thinking subroutine.\n\n"
_ROLES = ("user", "assistant", "tool")
_FUNCTIONS = "\nYou have the following functions available:\n"


class Cogito(NamedRenderer):
    """Never continues an answer. Leaves out system messages but the first."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The preamble, the system text and the tools, then the messages."""
        thinks = chat.thinks(default=False)
        system, rest = chat.split_system("system")
        yield BOS + (_DEEP if thinks else "") + _PREAMBLE
        if system:
            yield f"\n\n{system}" + ("\n\n" if thinks else "")
        if chat.tools:
            yield _FUNCTIONS
            yield from (f"```json\n{indented(tool_json(tool))}\n```\n" for tool in chat.tools)
        messages = [message for message in fold_results(rest, _results) if message.role in _ROLES]
        yield from map(_message_text, messages)
        if not messages or messages[-1].role != "user":
            yield ASSISTANT
        if thinks:
            yield f"{THINK}\n"


def _message_text(message: Message) -> str:
    match message.role:
        case "user":
            return f"{USER}{message.content}{ASSISTANT}"
        case "tool":
            return message.content
    calls = calls_text("\n".join(map(_cogito_call, message.tool_calls))) if message.tool_calls else ""
    return message.content + calls + END


def _cogito_call(call: ToolCall) -> str:
    arguments = compact(arguments_json(call))
    return f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"


def _results(results: Sequence[Message]) -> str:
    texts = "\n".join(map(result_text, results))
    return f"<｜tool▁outputs▁begin｜>{texts}<｜tool▁outputs▁end｜>"
