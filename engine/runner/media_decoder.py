"""Decodes pictures and sounds in a process of its own: a hostile file can end that process, not the model's.

`MediaDecoder` starts it: `python -m engine.runner.media_decoder`, files in, pixels and samples out.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import IO

import numpy as np

from engine.runner.media import UNREADABLE, MediaRejected, Medium, Picture, Sound
from engine.signatures import is_sound
from modelfile.containment import contain
from modelfile.operating_system import address_space, is_stopped, limit_address_space, prepare_child

REQUEST = struct.Struct("<II")  # samples per second that are wanted of sounds, bytes of the file
ANSWER = struct.Struct("<III")  # height and width of a picture, or zeros; bytes of pixels, samples or a text
TEXT = (1 << 32) - 1  # instead of a height: the file is rejected
MEMORY = 1 << 30  # bytes of addresses beyond those of the process itself
CPU_SECONDS = 15.0  # for one file
WALL_SECONDS = 60.0  # for one file, on a machine that is busy with other things
STOPPED = 5  # seconds after which a process that a signal has stopped is given up


class MediaDecoder:
    """The process, from its parent's side. One thread at a time; the process lives until `close` or the parent ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, unless it lives: it imports for a while."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.runner.media_decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)

    def decode(self, data: bytes, rate: int) -> Medium:
        """The pixels of a picture, or the samples of a sound at `rate`. Raises MediaRejected."""
        with self._lock:
            self.start()
            try:
                height, width, body = self._ask(data, rate)
            except (OSError, EOFError, TimeoutError):  # it has died of this file, or would take too long
                self.close()
                raise MediaRejected(UNREADABLE) from None
        if height == TEXT:
            raise MediaRejected(bytes(body).decode())
        if height:
            return Picture(np.frombuffer(body, np.uint8).reshape(height, width, 3))
        return Sound(np.frombuffer(body, np.float32))

    def close(self) -> None:
        """End the process; `decode` starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, data: bytes, rate: int) -> tuple[int, int, bytearray]:
        """Height, width and bytes of the answer. Raises OSError, EOFError or TimeoutError."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + WALL_SECONDS
        for part in (REQUEST.pack(rate, len(data)), data):
            view = memoryview(part)
            while view:
                self._wait([], [self._process.stdin], deadline)
                view = view[self._process.stdin.write(view) or 0 :]
        head = self._read(self._process.stdout, ANSWER.size, deadline)
        height, width, size = ANSWER.unpack(head)
        return height, width, self._read(self._process.stdout, size, deadline)

    def _read(self, pipe: IO[bytes], size: int, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            self._wait([pipe], [], deadline)
            part = pipe.read(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _wait(self, reading: list[IO[bytes]], writing: list[IO[bytes]], deadline: float) -> None:
        """Block until a pipe is ready. Raises TimeoutError, also if a signal has stopped the process for long."""
        assert self._process is not None
        stopped = 0
        while True:
            left = max(0.0, deadline - time.monotonic())
            if any(select.select(reading, writing, [], min(left, 1.0))):
                return
            stopped = stopped + 1 if is_stopped(self._process.pid) else 0
            if left <= 1.0 or stopped >= STOPPED:
                raise TimeoutError


def main() -> None:
    """Decode files from standard input until it is closed."""
    prepare_child()
    contain()
    # All these are imported here: those who start the process need none of them.
    from engine.runner.pictures import read_picture
    from engine.runner.sounds import read_sound

    limit_address_space(address_space() + MEMORY)
    while head := sys.stdin.buffer.read(REQUEST.size):
        rate, size = REQUEST.unpack(head)
        data = sys.stdin.buffer.read(size)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # nothing handles SIGPROF: it ends the process
        try:
            if is_sound(data):
                samples = read_sound(data, rate)
                _answer(0, 0, samples.tobytes())
            else:
                pixels = read_picture(data)
                _answer(pixels.shape[0], pixels.shape[1], pixels.tobytes())
        except MediaRejected as error:
            _answer(TEXT, 0, str(error).encode())
        except MemoryError:
            _answer(TEXT, 0, UNREADABLE.encode())
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(height: int, width: int, body: bytes) -> None:
    sys.stdout.buffer.write(ANSWER.pack(height, width, len(body)) + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
