"""One answer of a model: from the submitted prompt to the last event."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

from engine.api import Delta, Final
from engine.chat.prompt import Prompt
from engine.loading.process import RunnerProcess
from engine.messages import Done, Submit


class Reader(Protocol):
    """Reads thinking and tool calls out of the text as it comes."""

    def feed(self, text: str, final: bool = False) -> Iterator[Delta]:
        """What is certain by now; `final`: nothing comes after `text`."""


class PlainText:
    """Everything is content."""

    def feed(self, text: str, final: bool = False) -> Iterator[Delta]:
        """The text itself."""
        if text:
            yield Delta(text)


class WithoutCalls:
    """What another reader says, but for calls: none were asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def feed(self, text: str, final: bool = False) -> Iterator[Delta]:
        """The pieces of content and thinking."""
        return (delta for delta in self._reader.feed(text, final) if not delta.tool_calls)


class Generation:
    """The answer to one prompt. Iterate over `deltas` to its end, then ask for `final`; belongs to one task.

    Leaving `deltas` early cancels the answer in the process. `started` is when the request came, in `perf_counter_ns`
    time; the model counts as loaded when the generation is made.
    """

    def __init__(self, process: RunnerProcess, started: int) -> None:
        self._process = process
        self._load_duration = time.perf_counter_ns() - started
        self._texts: list[str] = []
        self._done: Done | None = None

    @property
    def text(self) -> str:
        """All that the model has written, markup included, without what the prompt had begun."""
        return "".join(self._texts)

    async def deltas(self, submit: Submit, prompt: Prompt, reader: Reader) -> AsyncGenerator[Delta, None]:
        """The pieces of the answer as they come. Raises what the process answers instead."""
        id_, answer = self._process.submit(submit)
        try:
            for delta in _begun(prompt, reader):
                yield delta
            while self._done is None:
                text, self._done = await answer.read()
                self._texts.append(text)
                for delta in reader.feed(text, self._done is not None):
                    yield delta
        finally:
            if not answer.ended:
                self._process.cancel(id_)

    def final(self, context: list[int] | None = None) -> Final:
        """The numbers of the answer."""
        done = self._done
        assert done is not None
        return Final(
            done_reason=done.reason,
            context=context,
            load_duration=self._load_duration,
            prompt_eval_count=done.prompt_tokens,
            prompt_eval_cached=done.prompt_cached,
            prompt_eval_duration=done.prompt_ns,
            eval_count=done.tokens,
            eval_duration=done.tokens_ns,
        )


def _begun(prompt: Prompt, reader: Reader) -> Iterator[Delta]:
    """What the prompt already contains of the answer."""
    if prompt.begun is None:
        return iter(())
    if not prompt.begun.content:  # the reader must know that thoughts have begun: at their beginning it skips spaces
        return reader.feed(prompt.begun.thinking)
    return iter((prompt.begun,))
