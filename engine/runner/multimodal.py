"""From a prompt with files to tokens and spans, on a thread of its own: decoding and preprocessing take a while."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from engine.messages import PlacedFile
from engine.runner.media import MediaRejected, Medium, is_sound
from engine.runner.media_decoder import MediaDecoder
from engine.runner.placeholders import Placeholders
from engine.runner.projector import MediaChunk, Projector, Span

MOST_HELD = 2 << 30  # bytes of preprocessed media of all requests that are not answered yet, before another is read
NOT_SUPPORTED = "{} input is not supported - hint: if this is unexpected, you may need to provide the mmproj"


class MediaReader:
    """Reads prompts with media for one model. `close` ends its process."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._decoder = MediaDecoder()
        self._decoder.start()
        self._placeholders = Placeholders()

    def read(self, prompt: str, files: Sequence[PlacedFile]) -> tuple[array[int], tuple[Span, ...]]:
        """A prompt's tokens, placeholders among them, and its spans. Raises MediaRejected.

        `files` are in the order of their places.
        """
        digests = [hashlib.sha256(file.data).digest() for file in files]
        return self._joined(self.parts(prompt, files), digests)

    @property
    def is_full(self) -> bool:
        """Whether what has been read and not answered yet takes so much memory that the next prompt should wait."""
        return self._projector.held > MOST_HELD

    def parts(self, prompt: str, files: Sequence[PlacedFile]) -> list[str | Medium]:
        """The prompt's texts and its decoded media, in order. Raises MediaRejected."""
        parts: list[str | Medium] = []
        at = 0
        for file in files:
            medium = self._decoded(file.data)
            parts += [prompt[at : file.at], medium] if file.at > at else [medium]
            at = file.at
        return [*parts, prompt[at:]] if at < len(prompt) else parts

    def close(self) -> None:
        """End the process that decodes."""
        self._decoder.close()

    def _decoded(self, data: bytes) -> Medium:
        sound = is_sound(data)
        if not (self._projector.hears if sound else self._projector.sees):
            raise MediaRejected(NOT_SUPPORTED.format("audio" if sound else "image"))
        return self._decoder.decode(data, self._projector.rate)

    def _joined(self, parts: Sequence[str | Medium], digests: Sequence[bytes]) -> tuple[array[int], tuple[Span, ...]]:
        tokens, spans = array("i"), []
        position = 0
        counts = [0] * len(digests)
        for piece in self._projector.tokens_and_chunks(parts):
            if isinstance(piece, MediaChunk):
                key = digests[piece.medium], counts[piece.medium], piece.n_tokens
                counts[piece.medium] += 1
                spans.append(Span(len(tokens), position, key, piece))
                tokens += self._placeholders.ids(key, piece.n_tokens, piece.n_pos)
                position += piece.n_pos
            else:
                tokens += piece
                position += len(piece)
        return tokens, tuple(spans)
