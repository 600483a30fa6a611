"""A child process that tries grammars out: `python -m engine.runner.grammar_check`, grammars in, verdicts out.

What compiles them recurses as deep as they nest and may never come to an end. Here that ends this process, which has
nothing else to do, and not a model's with all that it answers.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector, DefaultSelector

import msgspec
import numpy as np

from engine.messages import FRAME_HEADER, Grammar, GrammarVerdict, ValidateGrammar
from engine.runner.grammar import STACK, GrammarRejected, Grammars

MEMORY_LIMIT = 1 << 30  # bytes of address space of each process
TOO_MUCH = "it is too complex"
ANSWER, SEARCH = 500, 2_500  # tokens that an answer may have here, and tries to find its end
MOST_SAID = 1024  # bytes of a verdict: a pipe holds it
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
    """Judge what comes on standard input until that is closed, each grammar in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    grammars = Grammars(ByteVocabulary())
    verdict(grammars, Grammar('start: "a"'))  # all that is slow the first time
    _send(GrammarVerdict(0, True, ""))
    with DefaultSelector() as selector:
        selector.register(sys.stdin, EVENT_READ, None)
        while _serve(selector, grammars):
            pass
        for key in list(selector.get_map().values()):
            if key.data is not None:
                os.kill(key.data.pid, signal.SIGKILL)
                key.data.outcome()


def _serve(selector: BaseSelector, grammars: Grammars) -> bool:
    """Begin trials that are asked for and tell of those that have ended; False when nobody asks any more."""
    for key, _ in selector.select():
        if key.data is not None:
            selector.unregister(key.fileobj)
            _send(key.data.outcome())
        elif (asked := _receive()) is not None:
            trial = Trial.started(grammars, asked)
            selector.register(trial.pipe, EVENT_READ, trial)
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Trial:
    """A process that judges one grammar; `pipe` can be read when it has come to an end."""

    id: int
    pid: int
    pipe: int

    @classmethod
    def started(cls, grammars: Grammars, asked: ValidateGrammar) -> Trial:
        """Begin, with all that is loaded already."""
        pipe, end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(end)
            return cls(asked.id, pid, pipe)
        try:
            if sys.platform == "linux":  # elsewhere a process has far more addresses than memory
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
            signal.setitimer(signal.ITIMER_PROF, asked.seconds)  # nobody handles its signal: it ends the process
            _in_thread(lambda: os.write(end, verdict(grammars, asked.grammar).encode()[:MOST_SAID] + b"."))
        finally:
            os._exit(0)

    def outcome(self) -> GrammarVerdict:
        """What has come of it."""
        with open(self.pipe, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if said.endswith(b"."):
            return GrammarVerdict(self.id, True, said[:-1].decode("utf-8", "replace"))
        slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        return GrammarVerdict(self.id, not slow, TOO_MUCH)


def _in_thread(work: Callable[[], object]) -> None:
    """Do it with a stack that is smaller than where grammars are used: what passes here has room to spare there."""
    threading.stack_size(STACK // 2)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def verdict(grammars: Grammars, grammar: Grammar) -> str:
    """Why a grammar cannot be used, "" if it can."""
    try:
        matcher = grammars.matcher(grammar)
    except GrammarRejected as error:
        return str(error)
    matcher.set_budget(ANSWER, SEARCH)
    matcher.restrict(np.zeros(ByteVocabulary.size, np.float32))
    return "it contradicts itself: no answer would do" if matcher.fault else ""


def _receive() -> ValidateGrammar | None:
    """The next grammar, None at the end. Nothing is read beyond it, for the selector would not know of that."""
    head = _read(FRAME_HEADER.size)
    if head is None:
        return None
    body = _read(FRAME_HEADER.unpack(head)[0])
    return None if body is None else msgspec.msgpack.decode(body, type=ValidateGrammar)


def _read(size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        part = os.read(sys.stdin.fileno(), size - len(found))
        if not part:
            return None
        found += part
    return bytes(found)


def _send(found: GrammarVerdict) -> None:
    data = msgspec.msgpack.encode(found)
    sys.stdout.buffer.write(FRAME_HEADER.pack(len(data)) + data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
