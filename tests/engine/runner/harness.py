"""A runner without its process: real context, cache and loop on one thread, stepped by the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import numpy.typing as npt

from engine.loading.state_folder import StateFolder
from engine.loading.state_receiver import StateReceiver
from engine.messages import Chunk, Done, Failed, FromRunner, LoadModel, Sampling, StateFiles, Submit, padded
from engine.runner.child import budget_of, make_context, make_disk_cache, make_loop
from engine.runner.context import Context
from engine.runner.grammar import Grammars
from engine.runner.multimodal import MediaReader
from engine.runner.preprocess import make_sequence, prompt_tokens
from engine.runner.projector import Span
from engine.runner.sequence import Sequence

DIGEST = "ab" * 32  # of the weights, as the folder of states has it
TINYCHAT = Path(__file__).parents[3] / "registry" / "bundled" / "tinychat.gguf"
PLAIN = Sampling(temperature=0, repeat_penalty=1.0)
LIKELIEST = Sampling(top_k=1, repeat_penalty=1.0)  # without the promise of temperature 0: reuses whatever is known


def load(**wishes: Any) -> LoadModel:
    """A small CPU load; one thread, as cores are shared with other tests."""
    spec: dict[str, Any] = {"n_ctx": 1024, "n_cells": 4096, "n_parallel": 8, "n_batch": 512, "n_threads": 1}
    spec |= {"prompt_cache": 64 << 20, "lookup": "off"}
    return LoadModel(**{"path": str(TINYCHAT), "n_gpu_layers": 0, **spec, **wishes})


def load_context(spec: LoadModel, progress: Callable[[float], None] = lambda progress: None) -> Context:
    """A loaded model, as a child has it."""
    return make_context(spec, budget_of(spec), progress)


def submit(prompt: str, **wishes: Any) -> Submit:
    """A request with greedy sampling unless wished otherwise."""
    fields: dict[str, Any] = {"id": 0, "num_ctx": 1024, "num_predict": 48, "num_keep": 4, "shift": True}
    fields |= {"overflow": "cut", "stop": (), "sampling": PLAIN}
    return Submit(**{"prompt": prompt, **fields, **wishes})


def chat(question: str) -> str:
    """The prompt of a conversation of one question."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


class Runner:
    """What a child does with its requests. `close` frees the model. `states`: where it keeps states on disk."""

    def __init__(self, *, states: StateFolder | None = None, **wishes: Any) -> None:
        spec = load(**wishes)
        if states is not None:
            spec = msgspec.structs.replace(spec, disk_cache=StateFiles(str(states.open_for(DIGEST)), states.limit))
        self.context = load_context(spec)
        self.events: list[FromRunner] = []
        self.media = None if self.context.projector is None else MediaReader(self.context.projector)
        self.disk, self._woken = None, threading.Event()
        if states is not None:
            ours, theirs = socket.socketpair()
            self.receiver = StateReceiver(ours, states, DIGEST)
            self.disk = make_disk_cache(self.context, spec, theirs)
            assert self.disk is not None
            self.disk.start(None if self.media is None else self.media.placeholders, self._woken.set, lambda: None)
        self.loop = make_loop(self.context, spec, budget_of(spec), self.events.extend, self.disk)
        self.streams = self.loop.streams
        self.grammars = Grammars(self.context.vocabulary)
        self._n_ctx = padded(spec.n_ctx)
        self._ids = 0

    def submit(self, prompt: str, **wishes: Any) -> Sequence:
        """Hand the loop a request; its id counts up from 1."""
        self._ids += 1
        message = submit(prompt, **wishes, id=self._ids)
        spans: tuple[Span, ...] = ()
        if message.media:
            assert self.media is not None
            tokens, spans = self.media.read(message.prompt, message.media, message.cache_owner)
        else:
            tokens = prompt_tokens(self.context.vocabulary, message)
        matcher = None if message.grammar is None else self.grammars.matcher(message.grammar)
        seq = make_sequence(self.context.vocabulary, message, tokens, self._n_ctx, matcher, spans)
        for _ in seq.sampler.find_first_end():
            pass
        self.loop.submit(seq)
        return seq

    def step(self) -> None:
        """One pass."""
        self.loop.step(self.loop.plan())

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Step until nothing is left to do, or `until` says so."""
        while not until():
            if not self.loop.idle:
                self.step()
            elif self.loop.waiting and not self.loop.busy:  # for a state on disk
                assert self._woken.wait(60)
                self._woken.clear()
            else:
                return

    def ask(self, prompt: str, **wishes: Any) -> str:
        """The whole answer to one request that runs alone."""
        seq = self.submit(prompt, **wishes)
        self.run()
        return self.text(seq)

    def ask_and_measure(self, prompt: str, **wishes: Any) -> tuple[str, float]:
        """An answer, and how far the second best token was behind at least, in standard deviations of its row."""
        margins = []
        logits = self.context.logits

        def measured(rows: int) -> npt.NDArray[np.float32]:
            row_logits = logits(rows)
            second, best = np.partition(row_logits, -2, axis=1)[:, -2:].T
            margins.extend((best - second) / row_logits.std(axis=1))
            return row_logits

        with patch.object(self.context, "logits", measured):
            answer = self.ask(prompt, **wishes)
        return answer, float(min(margins))

    def ask_all(self, prompts: Iterable[str], **wishes: Any) -> list[str]:
        """The answers to requests that run together."""
        seqs = [self.submit(prompt, **wishes) for prompt in prompts]
        self.run()
        return [self.text(seq) for seq in seqs]

    def text(self, seq: Sequence) -> str:
        """What a request has been told so far."""
        return "".join(e.text for e in self.events if isinstance(e, Chunk) and e.id == seq.id)

    def done(self, seq: Sequence) -> Done:
        """A request's closing message."""
        (done,) = [e for e in self.events if isinstance(e, Done) and e.id == seq.id]
        return done

    def failures(self) -> list[Failed]:
        """Everything that has failed."""
        return [e for e in self.events if isinstance(e, Failed)]

    def forget(self) -> None:
        """Empty the cache of what finished requests left."""
        self.streams.forget()

    def close(self) -> None:
        """Free the model."""
        if self.media is not None:
            self.media.close()
        self.context.close()
        if self.disk is not None:
            self.receiver.close()
            self.receiver.join(60)
