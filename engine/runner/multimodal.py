"""From a prompt with files to tokens and spans, on a thread of its own: decoding takes a while."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from engine.messages import PlacedFile
from engine.runner.media import UNREADABLE, MediaRejected, Medium, Picture, PictureSize
from engine.runner.media_decoder import MediaDecoder
from engine.runner.placeholders import Placeholders
from engine.runner.projector import MediaChunk, Projector, Span
from engine.signatures import is_picture, is_sound

NOT_SUPPORTED = "{} input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
MOST_PIXELS = 64 << 20  # bytes of pixels that are kept until they are encoded
MOST_PREPARED = 4  # pictures of several chunks that are encoded in turns
MOST_SIZES = 1 << 14  # pictures whose sizes are remembered


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file as it was sent. What is kept of it goes by its `digest`, which is another for each owner."""

    data: bytes
    digest: bytes


class MediaReader:
    """Reads prompts with media for one model. `close` ends its process.

    A prompt needs only the sizes of its pictures, and these are known of pictures that came before. Pixels are needed
    where rows are: then `chunk_to_encode` decodes the file again, if its pixels have gone meanwhile.
    """

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._decoder = MediaDecoder()
        self._decoder.start()
        self.placeholders = Placeholders()
        self._lock = threading.Lock()  # guards sizes and pixels, which two threads use; all is by digest
        self._sizes: OrderedDict[bytes, PictureSize] = OrderedDict()  # the last used at the end
        self._pixels: OrderedDict[bytes, Picture] = OrderedDict()
        self._prepared: OrderedDict[bytes, list[MediaChunk]] = OrderedDict()  # of pictures that are being encoded

    def read(self, prompt: str, files: Sequence[PlacedFile], owner: str = "") -> tuple[array[int], tuple[Span, ...]]:
        """A prompt's tokens, placeholders among them, and its spans. Raises MediaRejected.

        `files` are in the order of their places. Nothing that is kept of them serves another owner: how soon an answer
        begins would tell what pictures the others show.
        """
        sent = [MediaFile(file.data, _digest(file.data, owner)) for file in files]
        parts: list[str | Medium] = []
        at = 0
        for place, file in zip(files, sent, strict=True):
            medium = self._medium(file)
            parts += [prompt[at : place.at], medium] if place.at > at else [medium]
            at = place.at
        parts += [prompt[at:]] if at < len(prompt) else []
        return self._joined(parts, sent)

    def chunk_to_encode(self, file: MediaFile, number: int, n_tokens: int) -> MediaChunk:
        """A picture's chunk of this number, with its pixels. Raises MediaRejected. For the thread that encodes."""
        chunks = self._prepared.pop(file.digest, None)
        if chunks is None:
            pieces = self._projector.tokens_and_chunks([self._picture(file)])
            chunks = [piece for piece in pieces if isinstance(piece, MediaChunk)]
            with self._lock:
                self._pixels.pop(file.digest, None)
        if number + 1 < len(chunks):
            self._prepared[file.digest] = chunks
            if len(self._prepared) > MOST_PREPARED:
                self._prepared.popitem(last=False)
        if number >= len(chunks) or chunks[number].n_tokens != n_tokens:
            raise MediaRejected("it is divided in another way than in its prompt")
        return chunks[number]

    def close(self) -> None:
        """End the process that decodes."""
        self._decoder.close()

    def _medium(self, file: MediaFile) -> Medium:
        """What a prompt needs of a file: a picture's size, or a sound. Raises MediaRejected."""
        sound = is_sound(file.data)
        if not (self._projector.hears if sound else self._projector.sees):
            refused = sound or is_picture(file.data)
            raise MediaRejected(NOT_SUPPORTED.format("audio" if sound else "image") if refused else UNREADABLE)
        if sound:
            return self._decoder.decode(file.data, self._projector.rate)
        with self._lock:
            size = self._sizes.pop(file.digest, None)
        if size is None:
            height, width, _ = self._picture(file).pixels.shape
            size = PictureSize(width, height)
        with self._lock:
            self._sizes[file.digest] = size
            if len(self._sizes) > MOST_SIZES:
                self._sizes.popitem(last=False)
        return size

    def _picture(self, file: MediaFile) -> Picture:
        """A picture with its pixels. Raises MediaRejected."""
        with self._lock:
            if (known := self._pixels.get(file.digest)) is not None:
                return known
        picture = self._decoder.decode(file.data, 0)
        assert isinstance(picture, Picture)
        with self._lock:
            self._pixels[file.digest] = picture
            while sum(other.pixels.nbytes for other in self._pixels.values()) > MOST_PIXELS and len(self._pixels) > 1:
                self._pixels.popitem(last=False)
        return picture

    def _joined(self, parts: Sequence[str | Medium], files: Sequence[MediaFile]) -> tuple[array[int], tuple[Span, ...]]:
        tokens, spans = array("i"), []
        position = 0
        counts = [0] * len(files)
        for piece in self._projector.tokens_and_chunks(parts):
            if isinstance(piece, MediaChunk):
                file, number = files[piece.medium], counts[piece.medium]
                key = file.digest, number, piece.n_tokens
                counts[piece.medium] += 1
                to_encode = partial(self.chunk_to_encode, file, number, piece.n_tokens)
                if is_sound(file.data):
                    to_encode = partial(_itself, piece)
                spans.append(Span(len(tokens), position, key, piece, to_encode))
                tokens += self.placeholders.ids(key, piece.n_tokens, piece.n_pos)
                position += piece.n_pos
            else:
                tokens += piece
                position += len(piece)
        return tokens, tuple(spans)


def _digest(data: bytes, owner: str) -> bytes:
    """The digest of a file and of whose it is."""
    digest = hashlib.sha256(owner.encode() + b"\0")
    digest.update(data)
    return digest.digest()


def _itself(chunk: MediaChunk) -> MediaChunk:
    return chunk
