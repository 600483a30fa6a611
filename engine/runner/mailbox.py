"""The child's end of the socket: one thread reads, tokenises and flips the abort flag; any thread may send."""

from __future__ import annotations

import os
import socket
import threading
from array import array
from queue import Empty, SimpleQueue
from typing import Protocol

from engine.messages import (
    FRAME_HEADER,
    MAX_FRAME,
    Cancel,
    Detokenize,
    Failed,
    FromRunner,
    Load,
    Ping,
    Pong,
    Submit,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    encode_frame,
    to_runner_decoder,
)
from engine.runner.context import Context
from engine.runner.intake import PromptRejected, make_sequence
from engine.runner.sequence import Sequence


class Counters(Protocol):
    """What `Pong` tells about the loop."""

    prefilling: frozenset[int]
    steps: int

    @property
    def busy(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...


class Mailbox:
    """Reads and writes frames. The process ends at once when the parent's end is closed."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Sequence | Cancel] = SimpleQueue()

    def send(self, events: list[FromRunner]) -> None:
        """Send events in one frame; safe from any thread."""
        frame = encode_frame(events)
        try:
            with self._lock:
                self._sock.sendall(frame)
        except OSError:
            os._exit(0)  # the parent is gone

    def receive_load(self) -> Load:
        """Block for the first message, which says what to load."""
        message = self._read()
        if not isinstance(message, Load):
            raise TypeError(f"expected Load, got {type(message).__name__}")
        return message

    def serve(self, context: Context, counters: Counters, n_ctx: int) -> None:
        """Start the reading thread; the loop takes what arrives with `take`."""
        threading.Thread(target=self._serve, args=(context, counters, n_ctx), name="mailbox", daemon=True).start()

    def take(self, *, block: bool) -> Sequence | Cancel | None:
        """The next thing for the loop to do; None if there is none and `block` is false."""
        try:
            return self._inbox.get(block=block)
        except Empty:
            return None

    def _serve(self, context: Context, counters: Counters, n_ctx: int) -> None:
        while True:
            message = self._read()
            match message:
                case Submit():
                    self._submit(context, message, n_ctx)
                case Cancel(id=id):
                    self._inbox.put(message)
                    if id in counters.prefilling:
                        context.abort.set()
                case Tokenize():
                    tokens = context.tokenize(message.text, add_special=message.add_special)
                    self.send([Tokens(message.id, tokens)])
                case Detokenize():
                    self.send([Text(message.id, context.detokenize(message.tokens))])
                case Ping(id=id):
                    c = counters
                    self.send([Pong(id, c.steps, c.busy, c.waiting, c.cached_tokens)])

    def _submit(self, context: Context, message: Submit, n_ctx: int) -> None:
        tokens = array("i", context.tokenize(message.prompt, add_special=True))
        try:
            self._inbox.put(make_sequence(context, message, tokens, n_ctx))
        except PromptRejected as error:
            self.send([Failed(message.id, "context", str(error))])

    def _read(self) -> ToRunner:
        (size,) = FRAME_HEADER.unpack(self._read_exactly(FRAME_HEADER.size))
        if size > MAX_FRAME:
            raise ValueError("frame too large")
        return to_runner_decoder.decode(self._read_exactly(size))

    def _read_exactly(self, size: int) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = 0
        while got < size:
            n = self._sock.recv_into(view[got:])
            if n == 0:
                os._exit(0)  # the parent is gone, however it went: whatever runs here has nobody to answer
            got += n
        return bytes(buffer)
