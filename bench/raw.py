"""The baseline: a bare llama.cpp loop without server, process boundary and scheduling.

All prompts form one joint batch; then every pass decodes one token of each sequence, sampled by llama.cpp's sampler
chain, one sequence after the other. End tokens are ignored. A good C program would do the same; Python only fills the
batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bench import options
from bench.run import Run
from engine.runner.llamacpp import C

N_BATCH = 2048  # llama.cpp's default; the joint prefill must fit
SEED = 1


class Model:
    """A loaded GGUF, shared by several loops."""

    def __init__(self, path: Path, n_threads: int) -> None:
        C.llama_backend_init()
        self.n_threads = n_threads
        self.handle = C.llama_model_load_from_file(str(path).encode(), C.llama_model_default_params())
        if not self.handle:
            raise RuntimeError(f"llama.cpp could not load the model: {last_words()}")
        self.vocab = C.llama_model_get_vocab(self.handle)
        self.n_vocab: int = C.llama_vocab_n_tokens(self.vocab)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a raw prompt, with BOS if the model adds it."""
        data = text.encode()
        room = len(data) + 8
        buffer = (C.llama_token * room)()
        count: int = C.llama_tokenize(self.vocab, data, len(data), buffer, room, True, True)
        return list(buffer[:count])


class Loop:
    """A context for up to `n_seq` sequences in a unified KV cache of `n_ctx` cells."""

    def __init__(self, model: Model, n_seq: int, n_ctx: int = 8192) -> None:
        self.model, self.n_ctx = model, n_ctx
        params = C.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = N_BATCH
        params.n_seq_max = params.n_outputs_max = n_seq
        params.n_threads = params.n_threads_batch = model.n_threads
        params.kv_unified = True
        params.no_perf = True
        self.context = C.llama_init_from_model(model.handle, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not create a context: {last_words()}")
        self._batch = C.llama_batch_init(N_BATCH, 0, 1)

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """Answer all prompts with exactly `n_tokens` tokens each, from an empty KV cache."""
        C.llama_memory_clear(C.llama_get_memory(self.context), False)
        started = time.perf_counter()
        texts = [self.model.tokenize(prompt) for prompt in prompts]
        chains = [default_chain(self.model.n_vocab, text) for text in texts]
        self.prefill(texts)
        tokens, first = [], []
        # A negative index counts the outputs of the last pass from the end.
        outputs = range(-len(prompts), 0)
        for i, chain in zip(outputs, chains, strict=True):
            tokens.append(C.llama_sampler_sample(chain, self.context, i))
            first.append(time.perf_counter() - started)
        for step in range(n_tokens - 1):
            self.decode(tokens, [len(text) + step for text in texts])
            tokens = [C.llama_sampler_sample(chain, self.context, i) for i, chain in zip(outputs, chains, strict=True)]
        ended = time.perf_counter() - started
        for chain in chains:
            C.llama_sampler_free(chain)
        return Run(tuple(first), (ended,) * len(prompts), (n_tokens,) * len(prompts))

    def prefill(self, texts: Sequence[Sequence[int]]) -> None:
        """Decode all prompts in one joint batch, with logits for each one's last token."""
        if sum(map(len, texts)) > N_BATCH:
            raise ValueError("the prompts do not fit one batch")
        self._batch.n_tokens = 0
        for seq, tokens in enumerate(texts):
            for pos, token in enumerate(tokens):
                self._add(token, pos, seq, output=pos == len(tokens) - 1)
        self._decode()

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """One pass with one token per sequence."""
        self._batch.n_tokens = 0
        for seq, (token, pos) in enumerate(zip(tokens, positions, strict=True)):
            self._add(token, pos, seq, output=True)
        self._decode()

    def _add(self, token: int, pos: int, seq: int, *, output: bool) -> None:
        batch, i = self._batch, self._batch.n_tokens
        batch.token[i] = token
        batch.pos[i] = pos
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = seq
        batch.logits[i] = output
        batch.n_tokens = i + 1

    def _decode(self) -> None:
        if code := C.llama_decode(self.context, self._batch):
            raise RuntimeError(f"llama_decode returned {code}: {last_words()}")


def default_chain(n_vocab: int, history: Sequence[int]) -> C.llama_sampler_p:
    """llama.cpp's sampler chain in its usual order; free it with llama_sampler_free.

    `history` are the prompt's tokens, which penalties include, as in llama-server.
    """
    chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
    for sampler in (
        C.llama_sampler_init_penalties(n_vocab, options.REPEAT_LAST_N, options.REPEAT_PENALTY, 0.0, 0.0),
        C.llama_sampler_init_top_k(options.TOP_K),
        C.llama_sampler_init_top_p(options.TOP_P, 1),
        C.llama_sampler_init_temp(options.TEMPERATURE),
        C.llama_sampler_init_dist(SEED),
    ):
        C.llama_sampler_chain_add(chain, sampler)
    for token in history[-options.REPEAT_LAST_N :]:
        C.llama_sampler_accept(chain, token)
    return chain


_lines: list[str] = []


@C.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(_level: int, text: bytes, _user_data: object) -> None:
    _lines.append(text.decode("utf-8", "replace"))
    del _lines[:-40]


def quiet() -> None:
    """Keep the last lines of llama.cpp's log instead of printing them, for the whole process."""
    C.llama_log_set(_keep, None)


def last_words() -> str:
    """The last lines of llama.cpp's log."""
    return "".join(_lines)
