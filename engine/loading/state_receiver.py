"""Takes states from a model's process and keeps them in the prompt cache on disk, in a thread of its own.

The process is not trusted: it may be in the hands of a hostile model file. It names files in its own model's folder
and gives their bytes; names, sizes and places are checked here.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import msgspec

from engine.loading.state_folder import PendingState, StateFolder
from engine.messages import FRAME_HEADER
from engine.state_messages import (
    MAX_STATE_FRAME,
    MOST_REPLACED,
    NO,
    YES,
    BrokenState,
    KeepState,
    UsedState,
    state_decoder,
)

_PIECE = 1 << 20  # bytes
_PATIENCE = 60.0  # seconds in which a process must go on with a state


class StateReceiver:
    """Serves the other end of `sock` until that is closed. `close` ends it early; `join` waits for its last file."""

    def __init__(self, sock: socket.socket, folder: StateFolder, digest: str) -> None:
        self._sock = sock
        self._folder = folder
        self._digest = digest
        self._buffer = memoryview(bytearray(_PIECE))
        self._thread = threading.Thread(target=self._serve, name="states", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take nothing more. A file that is not complete is dropped."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout: float) -> None:
        """Wait for its end, at most so many seconds. Blocking."""
        self._thread.join(timeout)

    def _serve(self) -> None:
        with self._sock, suppress(OSError, EOFError, msgspec.DecodeError):  # it has gone, or talks nonsense
            while True:
                self._sock.settimeout(None)
                (size,) = FRAME_HEADER.unpack(self._read(FRAME_HEADER.size))
                self._sock.settimeout(_PATIENCE)
                if size > MAX_STATE_FRAME:
                    raise EOFError
                match state_decoder.decode(self._read(size)):
                    case KeepState() as message:
                        self._keep(message)
                    case UsedState(name=name):
                        self._folder.used(self._digest, name)
                    case BrokenState(name=name):
                        self._folder.remove(self._digest, [name])

    def _keep(self, message: KeepState) -> None:
        pending = self._folder.begin(self._digest, message.name, message.size)
        if pending is None:
            self._sock.sendall(NO)
            return
        try:
            self._sock.sendall(YES)
            self._receive(pending, message.size)
            kept = pending.publish()
        finally:
            pending.close()
        if kept:
            self._folder.remove(self._digest, set(message.replaces[:MOST_REPLACED]) - {message.name})
        self._sock.sendall(YES if kept else NO)

    def _receive(self, pending: PendingState, size: int) -> None:
        while size:
            count = self._sock.recv_into(self._buffer, min(size, _PIECE))
            if not count:
                raise EOFError
            pending.write(self._buffer[:count])
            size -= count

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)
