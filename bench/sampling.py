"""What choosing the next tokens costs: our sampler against llama.cpp's chain, on the logits of the same passes.

A program, `python -m bench.sampling GGUF THREADS`, because only it needs both libraries in one process. It prints
two JSON lists, seconds per step: ours, llama.cpp's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from bench import options
from bench.quiet import quiet
from bench.raw import Loop, Model, default_chain
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
    """One step of both samplers on the logits that the last pass left in the context."""

    def __init__(self, loop: Loop, texts: list[list[int]]) -> None:
        model = loop.model
        self._context = loop.context
        self._chains = [default_chain(model.n_vocab, text) for text in texts]
        self._ours = [TokenSampler(PARAMS, model.vocab, model.n_vocab, loop.n_ctx, text) for text in texts]
        self._sampler = BatchSampler(model.n_vocab)
        self._shape = (len(texts), model.n_vocab)

    def ours(self) -> list[int]:
        """Our sampler, on llama.cpp's own memory as in the runner."""
        logits = np.ctypeslib.as_array(C.llama_get_logits(self._context), self._shape)
        return self._sampler.sample(self._ours, logits)

    def chains(self) -> list[int]:
        """llama.cpp's chain, one sequence after the other."""
        return [
            C.llama_sampler_sample(chain, self._context, i - len(self._chains)) for i, chain in enumerate(self._chains)
        ]


def compare(loop: Loop) -> tuple[list[float], list[float]]:
    """Seconds of each step: ours, llama.cpp's. Who goes first, with cold caches, alternates."""
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
