"""A child process that validates grammars: `python -m engine.runner.grammar_check`, grammars in, verdicts out.

Compiling a grammar recurses as deep as it nests and may never end. Here that kills a forked process, not a model's
child with all its answers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector, DefaultSelector

import msgspec
import numpy as np

from engine.messages import FRAME_HEADER, Grammar, GrammarVerdict, ValidateGrammar
from engine.runner.forced_end import Effort
from engine.runner.grammar import MOST_STATES, STACK, GrammarRejected, Grammars
from modelfile.containment import contain
from modelfile.operating_system import limit_address_space, prepare_child

MEMORY_LIMIT = 1 << 30  # bytes of address space of each trial
TOO_MUCH = "it is too complex"
ANSWER = 500  # tokens of a trial's answer
SEARCH = 2_500, 0.5  # tries to find its end, and seconds of CPU time
WALK = 8  # tokens that a trial follows: what is forced from there on is computed then, however long it is
_OTHER = "~"  # may begin a trial's answer, as reasoning may: else nothing is computed of what is forced from the start
MAX_REASON = 1024  # bytes: a pipe holds them without a reader
BYTES = 256


class ByteVocabulary:
    """A vocabulary of one token per byte, and one that ends the answer."""

    size = BYTES + 1

    def render(self, token: int, *, special: bool = False) -> bytes:
        """The byte of a token; the last token is a control token."""
        if token < BYTES:
            return bytes([token])
        return b"<end>" if special else b""

    def end_tokens(self) -> list[int]:
        """The last token."""
        return [BYTES]

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        """No text is a single token here."""
        return {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> array[int]:
        """The text's bytes."""
        return array("i", list(text.encode()))


def main() -> None:
    """Validate grammars from standard input until it is closed, each in a process of its own."""
    prepare_child(forks=True)
    contain()
    grammars = Grammars(ByteVocabulary(), MOST_STATES // 2)  # a model's tokens reach more states than bytes do
    validate(grammars, Grammar('start: "a"'))  # do now what is slow the first time
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
    """Start a trial for each request and report each one that has ended; False once standard input is closed."""
    for key, _ in selector.select():
        if key.data is not None:
            selector.unregister(key.fileobj)
            _send(key.data.outcome())
        elif (request := _receive()) is not None:
            trial = Trial.started(grammars, request)
            selector.register(trial.pipe, EVENT_READ, trial)
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Trial:
    """A forked process that validates one grammar; `pipe` becomes readable when it ends."""

    request_id: int
    pid: int
    pipe: int

    @classmethod
    def started(cls, grammars: Grammars, request: ValidateGrammar) -> Trial:
        """Fork a process for one grammar, which shares all that is loaded here."""
        pipe, end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(end)
            return cls(request.id, pid, pipe)
        try:
            limit_address_space(MEMORY_LIMIT)
            signal.setitimer(signal.ITIMER_PROF, request.seconds)  # nothing handles SIGPROF: it ends the process
            _in_thread(lambda: os.write(end, validate(grammars, request.grammar).encode()[:MAX_REASON] + b"."))
        finally:
            os._exit(0)

    def outcome(self) -> GrammarVerdict:
        """The verdict; blocks until the process has ended."""
        with open(self.pipe, "rb") as pipe:
            output = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if output.endswith(b"."):
            return GrammarVerdict(self.request_id, True, output[:-1].decode("utf-8", "replace"))
        slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        return GrammarVerdict(self.request_id, not slow, TOO_MUCH)


def _in_thread(function: Callable[[], object]) -> None:
    """Run a function with half the stack of a model's child: a grammar that passes here has room to spare there."""
    threading.stack_size(STACK // 2)
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def validate(grammars: Grammars, grammar: Grammar) -> str:
    """Why a grammar cannot be used, "" if it can."""
    row = np.zeros(ByteVocabulary.size, np.float32)
    try:
        if grammar.whole:
            matcher = grammars.matcher(grammar)
            matcher.set_budget(ANSWER)
            deque(matcher.find_first_end(Effort(*SEARCH)), maxlen=0)
            matcher.restrict(row)
            fault = matcher.fault
            if not fault and _becomes_too_much(grammars, grammar):
                return TOO_MUCH
        else:
            calls = grammars.call_grammar(grammar)
            fault = calls.mask.apply(calls.start, row)
    except GrammarRejected as error:
        return str(error)
    return "it contradicts itself: no answer would do" if fault else ""


def _becomes_too_much(grammars: Grammars, grammar: Grammar) -> bool:
    """Whether an answer soon fails as too complex: where a forced text is endless, or longer than a lexer can hold."""
    rules = grammar.rules.replace("start:", f'start: "{_OTHER}"? begun\nbegun:', 1)
    matcher = grammars.matcher(msgspec.structs.replace(grammar, rules=rules))
    matcher.set_budget(sys.maxsize)
    for _ in range(WALK):
        row = np.zeros(ByteVocabulary.size, np.float32)
        matcher.restrict(row)
        if matcher.fault:
            return matcher.fault.endswith(TOO_MUCH)
        allowed = [byte for byte in np.flatnonzero(row == 0).tolist() if byte not in (ord(_OTHER), BYTES)]
        if not allowed or matcher.finished:
            return False
        matcher.accept(allowed[0])
    return False


def _receive() -> ValidateGrammar | None:
    """The next request, None at the end. Reads nothing beyond it: the selector would not see what is buffered."""
    head = _read(FRAME_HEADER.size)
    if head is None:
        return None
    body = _read(FRAME_HEADER.unpack(head)[0])
    return None if body is None else msgspec.msgpack.decode(body, type=ValidateGrammar)


def _read(size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = os.read(sys.stdin.fileno(), size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


def _send(verdict: GrammarVerdict) -> None:
    """Report a verdict, to the parent if it is still there: its end of standard input tells when it is not."""
    data = msgspec.msgpack.encode(verdict)
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), FRAME_HEADER.pack(len(data)) + data)  # fits a pipe: at most MAX_REASON and some


if __name__ == "__main__":
    main()
