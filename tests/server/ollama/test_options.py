"""Every option does what its row of the table says, seen from outside: the bundled model in a real server.

`CHECKS` has a check for each row; an option that is not wired through makes its own check fail. `greedy` is the text
that the likeliest tokens give; `CHAOS` are options under which nearly every token of the vocabulary may come, so a text
that equals `greedy`, or does not depend on the seed, comes from the option that is tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import pytest
from gguf import GGUFReader

from engine.loading import memory
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.load_options import load_message, load_spec
from engine.messages import LoadModel
from engine.model import Models
from modelfile.parameters import PARAMETERS, resolve_options
from registry.storage.store import Store
from tests.engine.runner.harness import TINYCHAT
from tests.serving import LOOPBACK, PATIENCE, Served, serving

STORY, COUNTING = "Once", "1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3,"
OFF = {"temperature": 0, "repeat_penalty": 1, "num_predict": 12}
CHAOS = OFF | {"temperature": 5, "top_k": 0, "top_p": 1, "seed": 2}
DRY = {"dry_multiplier": 100}
GIB = 1 << 30
TOKENS: list[str] = GGUFReader(TINYCHAT).fields["tokenizer.ggml.tokens"].contents()
TOKEN_TEXTS = {"Ġbear": " bear", "Ċ": "\n"}


@dataclass
class Model:
    """The bundled model behind a server whose log has every forward pass."""

    server: Served

    def answer(self, prompt: str = STORY, **options: Any) -> dict[str, Any]:
        """The answer to a prompt that is not put into a template; greedy unless the options say otherwise."""
        return self.post(prompt, OFF | options).json()  # type: ignore[no-any-return]

    def post(self, prompt: str, options: dict[str, Any], **fields: Any) -> httpx.Response:
        body = {"model": "tinychat", "prompt": prompt, "raw": True, "stream": False, "options": options, **fields}
        return httpx.post(f"{self.server.url}/api/generate", json=body, timeout=PATIENCE, **LOOPBACK)

    def text(self, prompt: str = STORY, **options: Any) -> str:
        answer = self.answer(prompt, **options)
        return str(answer.get("thinking", "")) + str(answer["response"])

    @cached_property
    def greedy(self) -> str:
        return self.text()

    def chaos(self, **options: Any) -> str:
        """A text of nearly random tokens, but for these options."""
        return self.text(**CHAOS | options)

    def unload(self) -> None:
        url = f"{self.server.url}/api/generate"
        httpx.post(url, json={"model": "tinychat", "keep_alive": 0}, timeout=PATIENCE, **LOOPBACK)
        _await(lambda: not self.loaded())

    def loaded(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.server.url}/api/ps", **LOOPBACK).json()["models"]  # type: ignore[no-any-return]

    def records(self, message: str) -> list[dict[str, Any]]:
        """The log's records with this message so far."""
        lines = self.server.log.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [record for record in records if record["message"] == message]


def _await(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    store = tmp_path_factory.mktemp("served") / "models"
    with serving(store, PRONK_RUNNER_LOG="trace", PRONK_LOG_FORMAT="json") as server:
        yield Model(server)


def token(text: str) -> str:
    """The id of a token by its text, in which Ġ is a blank and Ċ a line break."""
    return str(TOKENS.index(text))


def load_message_of(model: Model, **options: Any) -> LoadModel:
    """The message that loads the model with these options on a machine with two GPUs."""
    model.answer(num_predict=1)  # which stores it
    stored = Models(Store(model.server.store)).resolve("tinychat")
    gpus = [Device("cuda", "gpu", 8 * GIB, 8 * GIB, f"CUDA{number}") for number in range(2)]
    weights = Weights(stored.weights, stored.header)
    spec = load_spec(stored, weights, resolve_options({}, options), 512, len(gpus))
    request = memory.Request(options=spec)
    host = Device("cpu", "cpu", 8 * GIB, 8 * GIB)
    plan = memory.plan(stored.header, request, memory.Limits(parallel=1), host, gpus)
    return load_message(stored, weights, spec, plan, None)


CHECKS: dict[str, Callable[[Model], None]] = {}


def check(function: Callable[[Model], None]) -> Callable[[Model], None]:
    """Register the check of the option that has the function's name."""
    CHECKS[function.__name__] = function
    return function


@pytest.mark.parametrize("name", PARAMETERS)
def test_option(model: Model, name: str) -> None:
    CHECKS[name](model)


@check
def num_ctx(model: Model) -> None:
    model.unload()
    model.answer(num_ctx=256)
    assert [loaded["context_length"] for loaded in model.loaded()] == [256]
    assert model.answer("a " * 100, num_ctx=64)["prompt_eval_count"] < 64
    refused = model.post("a " * 300, {"num_ctx": 256}, truncate=False)
    assert refused.status_code == 400
    assert "exceed" in refused.json()["error"]
    model.answer(num_ctx=1 << 40)  # as much as the model was trained for
    assert [loaded["context_length"] for loaded in model.loaded()] == [1024]


@check
def num_batch(model: Model) -> None:
    def steps() -> list[int]:
        return [step["tokens"] for step in model.records("pass") if step["prompts"]]

    before = len(steps())
    model.answer("batch " * 20, num_batch=3, num_predict=1)
    _await(lambda: len(steps()) >= before + 20 / 3)
    assert max(steps()[before:]) == 3
    model.answer("batches " * 20, num_batch=0, num_predict=1)
    _await(lambda: max(steps()[before:]) > 20)
    model.answer(num_batch=10**9)
    _await(lambda: model.records("num_batch limited"))


@check
def num_gpu(model: Model) -> None:
    assert [load_message_of(model, num_gpu=n).n_gpu_layers for n in (-9, -1, 0, 3, 999)] == [-1, -1, 0, 3, -1]


@check
def main_gpu(model: Model) -> None:
    firsts = [load_message_of(model, main_gpu=n).devices[0] for n in (-1, 0, 1, 2)]
    assert firsts == ["CUDA0", "CUDA0", "CUDA1", "CUDA0"]
    model.answer(main_gpu=1)  # there is none


@check
def use_mmap(model: Model) -> None:
    for value in (False, True):
        model.unload()
        before = len(model.records("loaded"))
        model.answer(use_mmap=value)
        _await(lambda before=before: len(model.records("loaded")) > before)
        assert (model.records("loaded")[-1]["mapped_bytes"] > 0) == value


@check
def num_thread(model: Model) -> None:
    def threads() -> list[int]:
        return [step["threads"] for step in model.records("pass")]

    before = len(threads())
    model.answer(num_thread=1)
    _await(lambda: len(threads()) > before + 10)
    assert threads()[-1] == 1
    model.answer(num_thread=10**6)
    _await(lambda: model.records("num_thread limited"))
    assert model.text(num_thread=-1) == model.greedy


@check
def draft_num_predict(model: Model) -> None:
    assert [model.text(draft_num_predict=n) for n in (0, 5)] == [model.greedy] * 2


@check
def num_keep(model: Model) -> None:
    long = "".join(f"{number} " for number in range(100))
    kept = [model.answer(long, num_ctx=128, num_keep=n)["prompt_eval_count"] for n in (4, 100, -1, -5)]
    assert kept == [66, 114, 127, 127]


@check
def num_predict(model: Model) -> None:
    answer = model.answer(num_predict=5)
    assert (answer["eval_count"], answer["done_reason"]) == (5, "length")
    for endless in (0, -1, -2, 10**12):
        answer = model.answer("Count to 5.", num_predict=endless, stop=["\n"])
        assert answer["done_reason"] == "stop"


@check
def seed(model: Model) -> None:
    assert model.chaos(seed=3) == model.chaos(seed=3)
    assert len({model.chaos(seed=n) for n in (0, 3, 4, 1 << 63, (1 << 63) + 1)}) == 5
    assert len({model.chaos(seed=n) for n in (-1, -1, -2, -2)}) == 4


@check
def stop(model: Model) -> None:
    before, _, _ = model.greedy.partition(" bear")
    answer = model.answer(stop=["elephant", " bear"])
    assert (answer["response"], answer["done_reason"]) == (before, "stop")
    assert model.text(stop=" bear") == before


@check
def temperature(model: Model) -> None:
    assert model.text(seed=1) == model.text(seed=2)
    assert model.chaos(temperature=0) == model.greedy
    assert model.chaos() != model.greedy


@check
def top_k(model: Model) -> None:
    assert model.chaos(top_k=1) == model.greedy
    assert model.chaos(top_k=-1) == model.chaos(top_k=0) != model.chaos(top_k=40) != model.chaos(top_k=10**9)


@check
def top_p(model: Model) -> None:
    assert model.chaos(top_p=0) == model.chaos(top_p=1e-6) == model.greedy
    assert model.chaos(top_p=2) == model.chaos(top_p=1)


@check
def min_p(model: Model) -> None:
    assert model.chaos(min_p=1) == model.greedy


@check
def typical_p(model: Model) -> None:
    assert model.chaos(typical_p=1e-6) == model.chaos(typical_p=1e-6, seed=3)


@check
def top_n_sigma(model: Model) -> None:
    assert model.chaos(top_n_sigma=1e-4) == model.greedy
    assert model.chaos(top_n_sigma=-5) == model.chaos(top_n_sigma=0) == model.chaos()


@check
def dynatemp_range(model: Model) -> None:
    upper = {"dynatemp_exponent": 0}  # always the upper end of the range
    five = model.chaos(**upper, temperature=2, dynatemp_range=3)
    assert five == model.chaos(**upper, temperature=4, dynatemp_range=1) != model.chaos(**upper, temperature=2)


@check
def dynatemp_exponent(model: Model) -> None:
    two, four = {"temperature": 2, "dynatemp_range": 3}, {"temperature": 4, "dynatemp_range": 1}
    assert model.chaos(**two, dynatemp_exponent=0) == model.chaos(**four, dynatemp_exponent=0)
    assert model.chaos(**two, dynatemp_exponent=1) != model.chaos(**four, dynatemp_exponent=1)


def _times(model: Model, text: str = "Ġbear", **options: Any) -> int:
    """How often a token occurs among 12 that all would be this one but for the options."""
    return model.text(logit_bias={token(text): 50}, **options).count(TOKEN_TEXTS[text])


@check
def repeat_penalty(model: Model) -> None:
    assert _times(model) == 12
    assert _times(model, repeat_penalty=100) == 1


@check
def repeat_last_n(model: Model) -> None:
    times = [_times(model, repeat_penalty=100, repeat_last_n=n) for n in (0, 1, 3, 64, -1)]
    assert times == [12, 6, 3, 1, 1]


@check
def presence_penalty(model: Model) -> None:
    assert _times(model, presence_penalty=100) == 1
    assert _times(model, presence_penalty=1) == 12


@check
def frequency_penalty(model: Model) -> None:
    assert 3 < _times(model, frequency_penalty=10) < 10


@check
def penalize_newline(model: Model) -> None:
    assert _times(model, "Ċ", repeat_penalty=100) < 4
    assert _times(model, "Ċ", repeat_penalty=100, penalize_newline=False) == 12


@check
def logit_bias(model: Model) -> None:
    assert model.text(logit_bias={token("Ġbear"): 100}, num_predict=3) == " bear bear bear"
    assert model.text(logit_bias=[[int(token("Ġbear")), 100]], num_predict=3) == " bear bear bear"
    assert " bear" in model.greedy
    for never in (-100, False):
        assert " bear" not in model.text(logit_bias={token("Ġbear"): never})


@check
def mirostat(model: Model) -> None:
    texts = [model.chaos(mirostat=n) for n in (0, 1, 2)]
    assert len(set(texts)) == 3


@check
def mirostat_tau(model: Model) -> None:
    for version in (1, 2):
        assert model.chaos(mirostat=version, mirostat_tau=0) == model.greedy != model.chaos(mirostat=version)


@check
def mirostat_eta(model: Model) -> None:
    for version in (1, 2):
        at_once = model.chaos(temperature=1, mirostat=version, mirostat_eta=10)
        assert at_once != model.chaos(temperature=1, mirostat=version, mirostat_eta=0)


@check
def dry_multiplier(model: Model) -> None:
    assert model.text(COUNTING).startswith(" 4, 5, 6")
    assert not model.text(COUNTING, dry_multiplier=100).startswith(" 4")
    assert not model.text(COUNTING, dry_multiplier=100, temperature=0.1, seed=1).startswith(" 4")


@check
def dry_base(model: Model) -> None:
    weak = {"dry_multiplier": 0.5}
    assert model.text(COUNTING, **weak, dry_base=1) == model.text(COUNTING) != model.text(COUNTING, **weak, dry_base=10)


@check
def dry_allowed_length(model: Model) -> None:
    assert model.text(COUNTING, **DRY, dry_allowed_length=50) == model.text(COUNTING)


@check
def dry_penalty_last_n(model: Model) -> None:
    for short in (0, 5):
        assert model.text(COUNTING, **DRY, dry_penalty_last_n=short) == model.text(COUNTING)
    assert model.text(COUNTING, **DRY, dry_penalty_last_n=-1) == model.text(COUNTING, **DRY)


@check
def dry_sequence_breakers(model: Model) -> None:
    assert model.text(COUNTING, **DRY, dry_sequence_breakers=[","]) == model.text(COUNTING)
    assert model.text(COUNTING, **DRY, dry_sequence_breakers=[]) != model.text(COUNTING)


@check
def xtc_probability(model: Model) -> None:
    second = {"top_k": 2, "xtc_threshold": 0}  # the second likeliest, if the likeliest is dropped
    assert model.chaos(**second, xtc_probability=1) == model.chaos(**second, xtc_probability=1, seed=3) != model.greedy
    assert model.chaos(**second, xtc_probability=0) != model.chaos(**second, xtc_probability=0, seed=3)


@check
def xtc_threshold(model: Model) -> None:
    always = {"top_k": 2, "xtc_probability": 1}
    assert model.chaos(**always, xtc_threshold=1) == model.chaos(top_k=2)
    assert model.chaos(**always, xtc_threshold=0) == model.chaos(**always, xtc_threshold=0, seed=3)
