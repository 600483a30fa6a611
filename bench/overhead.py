"""What a step of the runner's loop costs beside llama.cpp's pass: planning, batch, sampling, text, sending.

Run as `python -m bench.overhead GGUF THREADS`, in a process of its own like a server's child. Another process reads
what the loop sends. Prints the seconds of each step, by the number of sequences, as a JSON object.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.raw import quiet
from bench.sampling import PARAMS
from bench.workload import Workload
from engine.embed_messages import EmbeddingSizes
from engine.messages import LoadModel, Submit
from engine.runner.channel import Channel
from engine.runner.child import Loops, budget_of, make_context, make_loop, run_once
from engine.runner.context import Context
from engine.runner.embed_loop import EmbedLoop
from engine.runner.llamacpp import C
from engine.runner.preprocess import make_sequence, prompt_tokens

SEQUENCES = (1, 8, 32, 64)
STEPS = 100
CONTEXT = 512


class PassClock:
    """Adds up the time within `llama_decode`, in place of which it stands."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._decode = C.llama_decode
        vars(C)["llama_decode"] = self._timed

    def _timed(self, *args: object) -> int:
        started = time.perf_counter()
        code: int = self._decode(*args)
        self.seconds += time.perf_counter() - started
        return code


class Child:
    """What a server's child has, without the threads that prepare requests."""

    def __init__(self, gguf: Path, n_threads: int, sock: socket.socket) -> None:
        most = SEQUENCES[-1]
        spec = LoadModel(
            path=str(gguf),
            n_ctx=CONTEXT,
            n_cells=CONTEXT * most,
            n_parallel=most,
            n_batch=512,
            n_threads=n_threads,
            n_gpu_layers=0,
        )
        budget = budget_of(spec)
        self.context: Context = make_context(spec, budget, lambda progress: None)
        self.channel = Channel(sock)
        loop = make_loop(self.context, spec, budget, self.channel.send)
        self.loops = Loops(loop, EmbedLoop(self.context, EmbeddingSizes(), self.channel.send))

    def measure(self, n_sequences: int, clock: PassClock) -> list[float]:
        """Seconds beside the passes of steps in which so many sequences write a token each."""
        loop = self.loops.loop
        ids = range(1, n_sequences + 1)
        for number, prompt in zip(ids, Workload(n_sequences, 8, STEPS).prompts(0), strict=True):
            message = Submit(
                id=number,
                prompt=prompt,
                num_ctx=CONTEXT,
                num_predict=-1,
                num_keep=4,
                shift=True,
                overflow="cut",
                stop=(),
                sampling=PARAMS,
            )
            tokens = prompt_tokens(self.context.vocabulary, message)
            loop.submit(make_sequence(self.context.vocabulary, message, tokens, CONTEXT, None, ()))
        seconds: list[float] = []
        while len(seconds) < STEPS:
            generated, within, started = loop.generated_tokens, clock.seconds, time.perf_counter()
            run_once(self.context, self.loops, self.channel)
            spent = time.perf_counter() - started - (clock.seconds - within)
            if loop.generated_tokens == generated + n_sequences and not loop.prefilling:
                seconds.append(spent)
        for number in ids:
            loop.cancel(number)
        loop.streams.forget()
        return seconds


@contextmanager
def reader() -> Iterator[socket.socket]:
    """A socket at whose other end a process reads all."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(["cat"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL):
        theirs.close()
        yield ours
        ours.shutdown(socket.SHUT_RDWR)


def main(gguf: Path, n_threads: int) -> None:
    """Print the times."""
    quiet()
    with reader() as sock:
        child, clock = Child(gguf, n_threads, sock), PassClock()
        child.measure(SEQUENCES[0], clock)  # warms up
        times = {count: child.measure(count, clock) for count in SEQUENCES}
    sys.stdout.buffer.write(msgspec.json.encode(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
