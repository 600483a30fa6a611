"""Compares our sampler with llama.cpp's chain, on the logits of the same passes.

Run as `python -m bench.sampling GGUF THREADS`, because it needs both libraries in one process. Prints two JSON lists of
seconds per step: ours, llama.cpp's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from bench import options
from bench.raw import Loop, Model, default_chain, quiet
from bench.workload import Workload
from engine.messages import Sampling
from engine.runner.llamacpp import C
from engine.runner.sampling import BatchSampler, TokenSampler

STEPS = 60
WORKLOAD = Workload(streams=8, words=96, tokens=STEPS)
PARAMS = Sampling(
    temperature=options.TEMPERATURE,
    top_k=options.TOP_K,
    top_p=options.TOP_P,
    repeat_last_n=options.REPEAT_LAST_N,
    repeat_penalty=options.REPEAT_PENALTY,
)


class Contest:
    """Both samplers, on the logits of the last pass."""

    def __init__(self, loop: Loop, texts: list[list[int]]) -> None:
        model = loop.model
        self._context = loop.context
        self._chains = [default_chain(model.n_vocab, text) for text in texts]
        self._ours = [TokenSampler(PARAMS, model.vocab, model.n_vocab, loop.n_ctx, text) for text in texts]
        self._sampler = BatchSampler(model.n_vocab)
        self._shape = (len(texts), model.n_vocab)

    def ours(self) -> list[int]:
        """Sample with our sampler, on llama.cpp's own memory as in the runner."""
        logits = np.ctypeslib.as_array(C.llama_get_logits(self._context), self._shape)
        return self._sampler.sample(self._ours, logits)

    def chains(self) -> list[int]:
        """Sample with llama.cpp's chain, one sequence after the other."""
        return [
            C.llama_sampler_sample(chain, self._context, i - len(self._chains)) for i, chain in enumerate(self._chains)
        ]


def compare(loop: Loop) -> tuple[list[float], list[float]]:
    """Seconds of each step: ours, llama.cpp's. The first one, with cold caches, alternates."""
    texts = [loop.model.tokenize(prompt) for prompt in WORKLOAD.prompts(0)]
    loop.prefill(texts)
    contest = Contest(loop, texts)
    ours: list[float] = []
    theirs: list[float] = []
    turns = [(contest.ours, ours), (contest.chains, theirs)]
    for step in range(STEPS):
        for sample, seconds in turns:
            started = time.perf_counter()
            tokens = sample()
            seconds.append(time.perf_counter() - started)
        loop.decode(tokens, [len(text) + step for text in texts])
        turns.reverse()
    return ours, theirs


def main(gguf: Path, n_threads: int) -> None:
    """Print the two lists."""
    quiet()
    loop = Loop(Model(gguf, n_threads), WORKLOAD.streams)
    sys.stdout.buffer.write(msgspec.json.encode(compare(loop)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
