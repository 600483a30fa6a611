"""A child process that tries grammars out: `python -m engine.runner.judge`, grammars in, verdicts out.

What compiles them recurses as deep as they nest and may never come to an end. Here that ends this process, which has
nothing else to do, and not a model's with all that it answers.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
from array import array
from collections.abc import Sequence

import msgspec
import numpy as np

from engine.messages import FRAME_HEADER, Grammar
from engine.runner.grammar import STACK, GrammarRejected, Grammars

TIME_LIMIT = 1.2  # seconds for one grammar
MEMORY_LIMIT = 2 << 30  # bytes of address space
ANSWER = 4096  # tokens that an answer may have here
BYTES = 256


class ByteVocabulary:
    """One token for each byte, and one that ends the answer."""

    size = BYTES + 1

    def render(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; the last one is a control token."""
        if token < BYTES:
            return bytes([token])
        return b"<end>" if special else b""

    def end_tokens(self) -> list[int]:
        """The last token."""
        return [BYTES]

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        """No text is a token here."""
        return {}

    def tokenize(self, text: str, *, add_special: bool) -> array[int]:
        """The text's bytes."""
        return array("i", list(text.encode()))


def main() -> None:
    """Judge what comes on standard input until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere a process has far more addresses than memory
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    threading.stack_size(STACK // 2)  # what passes here has room to spare where it is used
    judging = threading.Thread(target=_serve)
    judging.start()
    judging.join()


def verdict(grammars: Grammars, grammar: Grammar) -> str:
    """Why a grammar cannot be used, "" if it can."""
    try:
        matcher = grammars.matcher(grammar)
    except GrammarRejected as error:
        return str(error)
    matcher.allow(ANSWER)
    matcher.restrict(np.zeros(ByteVocabulary.size, np.float32))
    return "no answer would do" if matcher.fault else ""


def _serve() -> None:
    grammars = Grammars(ByteVocabulary())
    verdict(grammars, Grammar('start: "a"'))  # all that is slow the first time
    _reply("ready")
    while len(head := sys.stdin.buffer.read(FRAME_HEADER.size)) == FRAME_HEADER.size:
        (size,) = FRAME_HEADER.unpack(head)
        grammar = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=Grammar)
        signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)  # nobody handles its signal: it ends the process
        found = verdict(grammars, grammar)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(found)


def _reply(text: str) -> None:
    data = text.encode()
    sys.stdout.buffer.write(FRAME_HEADER.pack(len(data)) + data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
