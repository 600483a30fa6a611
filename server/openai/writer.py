"""What the writers of chats and completions share: choices, token counts, the end of a stream."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from typing import Any

from engine.api import Delta, Final, Progress
from server.http.errors import ErrorInfo
from server.http.json_output import encode
from server.http.streaming import Framing, Writer, joined
from server.openai.choices import Numbered
from server.openai.errors import error_object
from server.openai.usage import head_of, usage_of

JSON = "application/json"
_DONE = b"data: [DONE]\n\n"


class ChoicesWriter(Writer[Numbered]):
    """Writes the answers to `prompts` prompts, `n` to each; whole, or as chunks of server-sent events.

    `prefix` begins the id, `kind` is the `object` of a whole answer, `chunk_kind` that of a chunk. With
    `count_reasoning` the token counts have those of the reasoning. `ping` is what keeps a silent stream alive.
    """

    error_media_type = JSON
    prefix: str
    kind: str
    chunk_kind: str
    chunk_tail = b"]}"
    """The end of a chunk, behind its choices."""

    def __init__(
        self,
        model: str,
        *,
        stream: bool,
        prompts: int = 1,
        n: int = 1,
        include_usage: bool = False,
        count_reasoning: bool = False,
        ping: bytes = b"",
    ) -> None:
        self.framing = Framing.SSE if stream else Framing.WHOLE
        self.media_type = "text/event-stream" if stream else JSON
        self.include_usage = include_usage
        self.head = head_of(self.prefix, self.chunk_kind if stream else self.kind, model)
        self._count = prompts * n
        self._n = n
        self._count_reasoning = count_reasoning
        self._ping = ping
        self._chunk_head = b"data: " + encode(self.head)[:-1] + b',"choices":['
        self._deltas: dict[int, list[Delta]] = defaultdict(list)  # of whole answers
        self._finals: dict[int, Final] = {}

    @abstractmethod
    def chunks(self, index: int, delta: Delta) -> bytes:
        """The chunks of a piece of choice `index`."""

    @abstractmethod
    def last_chunk(self, index: int, final: Final) -> bytes:
        """The chunk that ends choice `index`."""

    @abstractmethod
    def choice(self, index: int, delta: Delta, final: Final) -> dict[str, Any]:
        """A whole choice; `delta` has all of it."""

    def progress(self, index: int, progress: Progress) -> bytes:
        """The chunk that tells how far choice `index` is before its first piece: by default none."""
        return b""

    @staticmethod
    def error_object(info: ErrorInfo) -> dict[str, Any]:
        """OpenAI's error object."""
        return error_object(info)

    def ping(self) -> bytes:
        """A comment, or nothing for clients that fail on comments."""
        return self._ping

    def event(self, event: Numbered) -> bytes:
        """The chunks of a delta, or of the end of a choice; nothing without a stream."""
        index, piece = event
        if isinstance(piece, Progress):
            return self.progress(index, piece)
        if isinstance(piece, Final):
            self._finals[index] = piece
            return self.last_chunk(index, piece) if self.framing is Framing.SSE else b""
        if self.framing is Framing.SSE:
            return self.chunks(index, piece)
        self._deltas[index].append(piece)
        return b""

    def end(self) -> bytes:
        """The whole answer; or the token counts, if they are wanted, and the end of the stream."""
        usage = usage_of(self._finals, self._n, reasoning=self._count_reasoning)
        if self.framing is Framing.WHOLE:
            choices = [self.choice(i, joined(self._deltas[i]), self._finals[i]) for i in range(self._count)]
            return encode({**self.head, "choices": choices, "usage": usage}) + b"\n"
        counts = self.framing.frame(encode({**self.head, "choices": [], "usage": usage}))
        return (counts if self.include_usage else b"") + _DONE

    def frame(self, choice: bytes, tail: bytes = b"") -> bytes:
        """A chunk with one choice, which is encoded; `tail` ends it in another way."""
        return self._chunk_head + choice + (tail or self.chunk_tail) + b"\n\n"
