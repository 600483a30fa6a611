"""How a model's process has the server keep states of finished sequences on disk. No logic.

They have a socket of their own beside that of `engine.messages`: states are large, and the server takes them in a
thread. Each frame is a little-endian u32 length and a msgpack body. The process asks with `KeepState`; if the server
answers YES, `size` bytes follow, and a second answer tells whether they are kept. Nothing else is answered.
"""

from __future__ import annotations

import msgspec

from engine.messages import FRAME_HEADER

YES, NO = b"\1", b"\0"
MOST_REPLACED = 256  # names in one `KeepState`
MAX_STATE_FRAME = 1 << 16  # bytes; a longer one is no message
SUFFIX = ".state"


class KeepState(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Keep a file of `size` bytes under this name. Those that it `replaces` are removed once it is there."""

    name: str
    size: int
    replaces: tuple[str, ...] = ()


class UsedState(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A file was read: it should be the last to go."""

    name: str


class BrokenState(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """A file is not what it should be: remove it."""

    name: str


StateMessage = KeepState | UsedState | BrokenState

_encoder = msgspec.msgpack.Encoder()
state_decoder = msgspec.msgpack.Decoder(StateMessage)


def encode_state_frame(message: StateMessage) -> bytes:
    """The bytes of one frame, header included."""
    body = _encoder.encode(message)
    return FRAME_HEADER.pack(len(body)) + body
