"""`python -m bench.worker GGUF THREADS SEQUENCES`: the bare loop as a process, one JSON line in, one out."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from bench.raw import Loop, Model, quiet


def main(gguf: Path, n_threads: int, n_seq: int) -> None:
    """Answer lines of (prompts, number of tokens) with a `Run` each, until standard input ends."""
    quiet()
    loop = Loop(Model(gguf, n_threads), n_seq)
    for line in sys.stdin.buffer:
        prompts, n_tokens = msgspec.json.decode(line, type=tuple[list[str], int])
        sys.stdout.buffer.write(msgspec.json.encode(loop.run(prompts, n_tokens)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
