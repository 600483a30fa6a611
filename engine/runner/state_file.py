"""A state of a finished sequence as a file: head, cells, checksum. Reading trusts nothing before the checksum is right.

`PRONKST1`, a little-endian u32 with the length of the head, the head in msgpack, llama.cpp's bytes, and a Poly1305 of
all of that. Its key is the digest of everything that the bytes depend on, so a file of another model, another
llama.cpp or other cache types is as wrong as a broken one.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.messages import FRAME_HEADER
from engine.runner.known_tokens import KnownTokens
from engine.runner.placeholders import Placeholders
from engine.runner.saved_state import HEAD, WORD, SavedState, buffer
from engine.state_messages import SUFFIX

MAGIC = b"PRONKST1"
START = len(MAGIC) + FRAME_HEADER.size
CHECKSUM = 16  # bytes
MOST_HEAD = 16 << 20  # bytes
PIECE = 1 << 20  # bytes that are summed up at once: the interpreter is held meanwhile


class BrokenFile(Exception):
    """A file is not a state of this model and this llama.cpp, or not a whole one."""


class Medium(msgspec.Struct, array_like=True, frozen=True):
    """A chunk of a picture or a sound among the tokens: where it begins, what it is, and its rows and positions."""

    start: int
    digest: bytes
    number: int
    n_tokens: int
    n_pos: int


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What the cells are. `tokens` are int32, 0 in the rows of `media`; `owner` is a digest.

    The rest is as in `KnownTokens` and `SavedState`; `size` are the bytes of the state.
    """

    owner: bytes
    tokens: bytes
    n_prompt: int
    on_grid: int
    streams: int
    size: int
    media: tuple[Medium, ...] = ()

    @property
    def count(self) -> int:
        """Number of the tokens."""
        return len(self.tokens) // WORD

    def known(self, placeholders: Placeholders | None, owner: str) -> KnownTokens:
        """The tokens with this process's ids for media. Raises BrokenFile."""
        tokens = array("i", self.tokens)
        for medium in self.media:
            end = medium.start + medium.n_tokens
            if placeholders is None or not (0 <= medium.start < end <= len(tokens) and medium.n_pos > 0):
                raise BrokenFile
            if medium.n_pos > medium.n_tokens:
                raise BrokenFile
            key = medium.digest, medium.number, medium.n_tokens
            tokens[medium.start : end] = placeholders.ids(key, medium.n_tokens, medium.n_pos)
        return KnownTokens(tokens, self.n_prompt, self.on_grid, owner)


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state on its way to disk: its name, its head, and its bytes in pieces. The state may be used meanwhile."""

    name: str
    head: Head
    encoded: bytes
    prefix: bytes
    pieces: tuple[memoryview, ...]
    key: bytes

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.prefix) + sum(piece.nbytes for piece in self.pieces) + CHECKSUM

    def read(self) -> Iterator[bytes | memoryview]:
        """The file's bytes in small pieces."""
        checksum = _checksum(self.key)
        for part in (memoryview(self.prefix), *self.pieces):
            for at in range(0, part.nbytes, PIECE):
                piece = part[at : at + PIECE]
                checksum.update(piece)
                yield piece
        yield checksum.finalize()


def owner_digest(owner: str) -> bytes:
    """What stands for an owner on disk."""
    return hashlib.sha256(b"pronk state owner\0" + owner.encode()).digest()[:16]


def state_file(
    known: KnownTokens, state: SavedState, key: bytes, placeholders: Placeholders | None
) -> StateFile | None:
    """A state as a file; None if it has media that are forgotten. `key`: the digest of what its bytes depend on."""
    portable = portable_tokens(known.tokens, placeholders)
    if portable is None:
        return None
    tokens, media = portable
    first = state.data[state.start : state.end][: HEAD * WORD].copy()
    if not state.streams:  # a use may write another number there at any time
        first.view(np.uint32)[2] = 1
    rest = state.data[state.start + first.nbytes : state.end].data
    owner = owner_digest(known.owner)
    size = state.end - state.start
    head = Head(owner, tokens, known.n_prompt, known.on_grid, state.streams, size, media)
    encoded = msgspec.msgpack.encode(head)
    prefix = MAGIC + FRAME_HEADER.pack(len(encoded)) + encoded
    return StateFile(file_name(encoded, key), head, encoded, prefix, (first.data, rest), key)


def file_name(encoded: bytes, key: bytes) -> str:
    """The name of the file with this head."""
    return f"{key.hex()[:16]}-{hashlib.sha256(encoded).hexdigest()[:32]}{SUFFIX}"


def portable_tokens(tokens: array[int], placeholders: Placeholders | None) -> tuple[bytes, tuple[Medium, ...]] | None:
    """Tokens without ids that only this process knows, and what these stood for; None if it has forgotten that."""
    if min(tokens, default=0) >= 0:
        return tokens.tobytes(), ()
    if placeholders is None:
        return None
    plain = array("i", tokens)
    media: list[Medium] = []
    for start, key, n_tokens, n_pos in placeholders.spans(tokens):
        match key:
            case (bytes() as digest, int() as number, int() as rows) if rows == n_tokens:
                media.append(Medium(start, digest, number, n_tokens, n_pos))
            case _:
                return None
        plain[start : start + n_tokens] = array("i", bytes(n_tokens * WORD))
    return plain.tobytes(), tuple(media)


def read_head(path: Path, key: bytes) -> tuple[Head, bytes]:
    """The head of a file that has its right name and size, and its encoded form. Raises BrokenFile and OSError."""
    with open(path, "rb", opener=_no_links) as file:
        start = file.read(START)
        (length,) = FRAME_HEADER.unpack(start[len(MAGIC) :]) if len(start) == START else (0,)
        if not start.startswith(MAGIC) or not 0 < length <= MOST_HEAD:
            raise BrokenFile
        encoded = file.read(length)
        size = os.fstat(file.fileno()).st_size
    head = _decoded(encoded)
    if path.name != file_name(encoded, key) or size != START + length + head.size + CHECKSUM:
        raise BrokenFile
    return head, encoded


def read_state(path: Path, encoded: bytes, key: bytes) -> SavedState:
    """The state in a file whose head is `encoded`, proven to be what was written. Raises BrokenFile and OSError."""
    head = _decoded(encoded)
    prefix = MAGIC + FRAME_HEADER.pack(len(encoded)) + encoded
    data = buffer(head.size)
    with open(path, "rb", buffering=0, opener=_no_links) as file:
        if os.fstat(file.fileno()).st_size != len(prefix) + head.size + CHECKSUM:
            raise BrokenFile
        checksum = _checksum(key)
        if file.read(len(prefix)) != prefix:
            raise BrokenFile
        checksum.update(prefix)
        at, view = 0, data[: head.size].data
        while at < head.size:
            count = file.readinto(view[at : at + PIECE]) or 0
            if not count:
                raise BrokenFile
            checksum.update(view[at : at + count])
            at += count
        if file.read(CHECKSUM + 1) != checksum.finalize():
            raise BrokenFile
    return SavedState(data, 0, head.size, head.streams)


def _decoded(encoded: bytes) -> Head:
    try:
        head = msgspec.msgpack.decode(encoded, type=Head)
    except msgspec.DecodeError:
        raise BrokenFile from None
    whole = len(head.tokens) % WORD == 0 and head.size >= HEAD * WORD
    if not whole or not 0 <= head.on_grid <= head.count or head.n_prompt < 0 or head.streams < 0:
        raise BrokenFile
    return head


def _checksum(key: bytes) -> Any:
    from cryptography.hazmat.primitives.poly1305 import Poly1305  # deferred: most processes keep nothing on disk

    return Poly1305(key)


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
