"""What llama.cpp has to say: silent by default, its errors kept for the message of a failed load."""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence

from engine.runner.bindings import C

log = logging.getLogger(__name__)

ERROR_LEVEL = 4  # ggml's log levels: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
KEPT = 16  # lines
_MODEL_BUFFER = re.compile(r"load_tensors: +(\S+) model buffer size = +([\d.]+) MiB")
_ABORT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_BUILD_FOLDER = re.compile(r"^\S*/(?=[^/\s]+:\d+: )")  # a failed assertion begins with its source file


class LibraryLog:
    """Receives llama.cpp's log from whatever thread it logs on; made by `library_log` only."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT)
        self.buffers: dict[str, int] = {}  # bytes of the weights loaded last, by the kind of memory they are in
        self._callback = C.llama_log_callback(self._receive)  # must stay referenced as long as the library logs
        C.llama_log_set(self._callback, None)

    def clear(self) -> None:
        """Forget the errors and the buffers so far."""
        self._errors.clear()
        self.buffers.clear()

    def reason(self, what: str, private: Sequence[str]) -> str:
        """`what`, and why: the first error since `clear`, without the file paths named in `private`."""
        if not self._errors:
            return what
        why = self._errors[0]
        for path in private:
            why = why.replace(path, "model")
        return f"{what}: {why}"

    def on_abort(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with what llama.cpp gives up for, on whatever thread that happens; then it aborts."""

        def say(text: bytes) -> None:
            why = text.decode("utf-8", "replace").strip()
            print(why, file=sys.stderr, flush=True)  # as the library does if nobody else wants to
            tell(" ".join(_BUILD_FOLDER.sub("", why).split()))

        self._abort_callback = _ABORT_CALLBACK(say)  # must stay referenced too
        C._lib.ggml_set_abort_callback(self._abort_callback)

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if not line:
            return
        if level == ERROR_LEVEL:
            self._errors.append(line)
        elif found := _MODEL_BUFFER.match(line):
            self.buffers[found[1]] = self.buffers.get(found[1], 0) + round(float(found[2]) * (1 << 20))
        # An aborted pass is an error to the library, hence not to us: what matters is raised.
        log.log(logging.INFO if level == ERROR_LEVEL else logging.DEBUG, "%s", line)


@functools.cache
def library_log() -> LibraryLog:
    """The one there is, for the whole life of the process, as the library has one log."""
    return LibraryLog()
