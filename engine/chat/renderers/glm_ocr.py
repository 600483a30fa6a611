"""GLM OCR: GLM's tokens with line breaks, images, reasoning only if asked for."""

from __future__ import annotations

from collections.abc import Iterator

from engine.chat.images import in_front_apart, tagged
from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.glm import ASSISTANT, OBSERVATION, START, SYSTEM, USER, call_text, tools_text
from engine.chat.renderers.marks import END_THINK, THINK
from engine.requests import Message
from modelfile.gotemplate.strings import SPACES

_NO_THINK = "/nothink"


class GLMOcr(NamedRenderer):
    """An answer is never continued. All thoughts are shown again; each question says if it is to be none."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The tools, then the turns."""
        yield START + tools_text(chat.tools)
        is_off = not chat.thinks(unless_said=True)
        before = ""
        for message in tagged(chat.messages, in_front_apart):
            suffix = _NO_THINK if is_off and not message.content.endswith(_NO_THINK) else ""
            yield f"{USER}\n{message.content}{suffix}" if message.role == "user" else _turn(message, before)
            before = message.role
        yield f"{ASSISTANT}\n" + (f"{THINK}{END_THINK}\n" if is_off else "")


def _turn(message: Message, before: str) -> str:
    """A message that is not the user's, behind one of the role `before`."""
    match message.role:
        case "system":
            return f"{SYSTEM}\n{message.content}\n"
        case "assistant":
            return f"{ASSISTANT}\n{THINK}{message.thinking.strip(SPACES)}{END_THINK}{_answer(message)}\n"
        case "tool":
            opening = "" if before == "tool" else OBSERVATION
            return f"{opening}\n<tool_response>\n{message.content}\n</tool_response>\n"
    return ""


def _answer(message: Message) -> str:
    content = f"\n{message.content.strip(SPACES)}" if message.content else ""
    return content + "".join(f"\n{call_text(call)}" for call in message.tool_calls)
