"""Nemotron 3 Nano: ChatML that always begins with a system turn, Qwen's XML for tools, reasoning in the content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.chat.images import in_front_apart, tagged
from engine.chat.renderers.chatml import ANSWER, END, START, turn
from engine.chat.renderers.family import Chat, NamedRenderer, last_user
from engine.chat.renderers.marks import END_THINK, THINK
from engine.chat.renderers.nemotron_values import TOOLS, argument_text
from engine.chat.renderers.qwen import xml_call
from engine.chat.renderers.results import fold_results
from engine.requests import Message
from modelfile.gotemplate.strings import SPACES

_NO_THOUGHT = THINK + END_THINK
_ON, _OFF = "/think", "/no_think"
_EFFICIENT = "\n\n{reasoning effort: efficient}"


class Nemotron35(NamedRenderer):
    """An answer is never continued. Thoughts are shown again only behind the last question."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The turns, each as ChatML."""
        system, rest = chat.split_system("system")
        yield turn("system", "\n\n".join(filter(None, (self.without_switches(system or ""), _tools(chat)))))
        messages = fold_results(tagged(rest, in_front_apart), _results)
        question = last_user(messages)
        for at, message in enumerate(messages):
            match message.role:
                case "assistant":
                    yield self._answer(message, is_old=at < question)
                case "tool":
                    yield (f"{START}user\n" if at else "") + message.content + END
                case "user" | "system":
                    yield turn(message.role, self.heard(message.content) + self.effort(chat, is_last=at == question))
                case _:
                    yield turn(message.role, message.content)
        yield f"{ANSWER}{THINK}\n" if self.thinks(chat) else ANSWER + _NO_THOUGHT

    def thinks(self, chat: Chat) -> bool:
        """Whether the model is to reason."""
        return chat.thinks(unless_said=True)

    def without_switches(self, text: str) -> str:
        """A system text as the model reads it."""
        return text

    def heard(self, text: str) -> str:
        """What a user or a later system message says."""
        return text

    def effort(self, chat: Chat, *, is_last: bool) -> str:
        """What stands behind a message about how hard to think; `is_last`: it is the last question."""
        return _EFFICIENT if is_last and chat.think == "medium" else ""

    def with_thoughts(self, thoughts: str, content: str) -> str:
        """An answer in one text."""
        return f"{THINK}\n{thoughts}{END_THINK}{content}"

    def _answer(self, message: Message, *, is_old: bool) -> str:
        content = message.content
        if message.thinking:
            content = self.with_thoughts(message.thinking, content)
        elif THINK not in content and END_THINK not in content:
            content = _NO_THOUGHT + content
        if not message.tool_calls:
            return turn("assistant", (_forgetful(content) if is_old else content).strip(SPACES))
        calls = "".join(f"{xml_call(call, argument_text)}\n" for call in message.tool_calls)
        return turn("assistant", _before_calls(content, is_old=is_old) + calls)


class Nemotron3(Nemotron35):
    """As above, but `/think` and `/no_think` in what users and the system say are switches and do not stay."""

    def thinks(self, chat: Chat) -> bool:
        """The last switch counts, whoever set it."""
        state = super().thinks(chat)
        for message in chat.messages:
            if message.role in ("user", "system"):
                if _ON in message.content.replace(END_THINK, ""):
                    state = True
                elif _OFF in message.content:
                    state = False
        return state

    def without_switches(self, text: str) -> str:
        """The text without its switches; closing tags stay."""
        pieces = text.split(END_THINK)
        return END_THINK.join(piece.replace(_ON, "").replace(_OFF, "") for piece in pieces)

    def heard(self, text: str) -> str:
        """The same without blanks around it."""
        return self.without_switches(text).strip(SPACES)

    def effort(self, chat: Chat, *, is_last: bool) -> str:
        """Nothing."""
        return ""

    def with_thoughts(self, thoughts: str, content: str) -> str:
        """An answer in one text, the tags on lines of their own."""
        return f"{THINK}\n{thoughts}\n{END_THINK}\n{content}"


def _tools(chat: Chat) -> str:
    return TOOLS.text(chat.tools) if chat.tools else ""


def _results(results: Sequence[Message]) -> str:
    return "".join(f"<tool_response>\n{result.content}\n</tool_response>\n" for result in results)


def _forgetful(content: str) -> str:
    """An old answer with an empty block in place of its thoughts."""
    if THINK in content and END_THINK in content:
        return _NO_THOUGHT + content.rpartition(END_THINK)[2]
    return content


def _before_calls(content: str, *, is_old: bool) -> str:
    """What an answer says before it calls tools."""
    if not content.strip(SPACES):
        return _NO_THOUGHT
    if is_old:
        rest = content.rpartition(END_THINK)[2] if END_THINK in content else content.partition(THINK)[0]
        content = _NO_THOUGHT + rest.strip(SPACES)
    return content.strip(SPACES) + "\n"
