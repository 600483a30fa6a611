"""Prompts with pictures and sounds: what the runner computes is what libmtmd computes by itself."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest

from engine.loading.state_folder import StateFolder
from engine.messages import PlacedFile, Sampling
from engine.runner.batch import RowsBatch
from engine.runner.context import ABORTED
from engine.runner.llamacpp import C, multimodal
from engine.runner.media import Medium
from engine.runner.penalties import Logits
from engine.runner.sequence import Sequence as Running
from tests.engine.runner.harness import LIKELIEST, PLAIN, Runner
from tests.seen import MODELS, files, files_of

MARKER = "<__media__>"
TIE = 0.05  # logits; nearer ones may come in another order on another processor
REFERENCE: dict[str, dict[str, Any]] = json.loads((MODELS / "reference.json").read_text())
LEAST = {"cases": -1, "cases_with_image_min_tokens_1024": 1024}
LARGE = ("text first", "two images swapped")  # with a thousand tokens for each image two cases are enough
CASES = [
    (name, kind, case)
    for name, model in REFERENCE.items()
    for kind in LEAST
    for case in model.get(kind, {})
    if kind == "cases" or case in LARGE
]
ASK = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SEEDED = Sampling(temperature=0.8, seed=7)


def name_of(medium: str) -> str:
    """The file of a medium of the reference."""
    sounds = {"tone440": "tone.wav", "tone880": "tone880.wav", "long": "long.wav"}
    return sounds.get(medium, f"{medium}.png")


def placed(prompt: str, media: Sequence[str]) -> tuple[str, tuple[PlacedFile, ...]]:
    """The prompt without the markers of its media, and these."""
    texts = prompt.split(MARKER)
    made = tuple(
        PlacedFile(sum(map(len, texts[: number + 1])), files()[name_of(name)]) for number, name in enumerate(media)
    )
    return "".join(texts), made


@dataclass
class Eyes:
    """A runner on one of the tiny models, and what it is asked."""

    runner: Runner

    def submit(self, prompt: str, *media: str, **wishes: Any) -> Running:
        text, made = placed(prompt, media)
        return self.runner.submit(text, media=made, **{"num_ctx": 4096, "num_predict": 16} | wishes)

    def ask(self, prompt: str, *media: str, **wishes: Any) -> Running:
        """A request that runs alone to its end."""
        seq = self.submit(prompt, *media, **wishes)
        self.runner.run()
        assert not self.runner.failures()
        return seq

    def measured(self, prompt: str, *media: str, **wishes: Any) -> tuple[Running, Logits]:
        """The same, and the logits behind the prompt."""
        rows: list[Logits] = []
        logits = self.runner.context.logits

        def kept(count: int) -> Logits:
            found = logits(count)
            rows.append(found[-1].copy())
            return found

        with patch.object(self.runner.context, "logits", kept):
            seq = self.ask(prompt, *media, **wishes)
        return seq, rows[0]

    @property
    def encoded(self) -> int:
        encoder = self.runner.loop.encoder
        assert encoder is not None
        return encoder.encoded

    def by_libmtmd(self, prompt: str, *media: str) -> Logits:
        """The logits behind a prompt, by libmtmd's own helper and a context of its own."""
        m, context = multimodal(), self.runner.context
        assert context.projector is not None
        params = context.params()
        params.n_ctx = params.n_batch = params.n_ubatch = 4096
        own = context.create_sibling(params)
        text, made = placed(prompt, media)
        assert self.runner.media is not None
        parts: list[str | Medium] = []
        for start, file in zip([0, *(file.at for file in made)], made, strict=False):
            parts += [text[start : file.at], self.runner.media._decoder.decode(file.data, context.projector.rate)]
        parts = [part for part in [*parts, text[made[-1].at :]] if part != ""]
        chunks = context.projector.chunk_list(parts)
        end = C.llama_pos(0)
        code = m.mtmd_helper_eval_chunks(context.projector._ctx, own, chunks, 0, 0, 4096, True, ctypes.byref(end))
        assert code == 0
        logits = np.ctypeslib.as_array(C.llama_get_logits_ith(own, -1), (context.vocabulary.size,)).copy()
        m.mtmd_input_chunks_free(chunks)
        C.llama_free(own)
        return logits


def answer(seq: Running) -> list[int]:
    return seq.tokens[seq.n_prompt :].tolist()


@pytest.fixture(scope="module")
def eyes_of() -> Iterator[Callable[..., Eyes]]:
    """Makes runners on the tiny models, each once."""
    made: dict[tuple[Any, ...], Eyes] = {}

    def make(name: str, **wishes: Any) -> Eyes:
        key = (name, *sorted(wishes.items()))
        if key not in made:
            text, projector = files_of(name)
            sizes: dict[str, Any] = {"n_ctx": 4096, "n_cells": 16384, "row_cache": 1 << 26} | wishes
            made[key] = Eyes(Runner(path=str(text), projector=str(projector), **sizes))
        eyes = made[key]
        eyes.runner.run()
        eyes.runner.events.clear()
        return eyes

    yield make
    for eyes in made.values():
        eyes.runner.close()


@pytest.mark.parametrize(("name", "kind", "case"), CASES)
def test_as_libmtmd_computes_it(eyes_of: Callable[..., Eyes], name: str, kind: str, case: str) -> None:
    eyes, wanted = eyes_of(name, image_min_tokens=LEAST[kind]), REFERENCE[name][kind][case]
    prompt, media = wanted["prompt"], wanted["media"]
    first, logits = eyes.measured(prompt, *media, sampling=PLAIN)
    again, cached = eyes.measured(prompt, *media, sampling=LIKELIEST)
    certain = next((at for at, margin in enumerate(wanted["margins"]) if margin < TIE), len(wanted["margins"]))
    assert first.n_prompt == wanted["n_tokens"]
    assert again.n_reused > 0
    for seq in (first, again):
        assert answer(seq)[:certain] == wanted["tokens"][:certain]
    own = eyes.by_libmtmd(prompt, *media) if media else logits
    assert np.abs(logits - own).max() < 0.02
    assert np.abs(cached - own).max() < 0.02


def test_pictures_and_their_order_matter(eyes_of: Callable[..., Eyes]) -> None:
    for name in ("llava", "qwen2vl", "qwen3vl", "gemma3", "idefics3"):
        eyes = eyes_of(name)
        asked = [("checker",), ("gradient",), ("checker", "gradient"), ("gradient", "checker"), ("checker", "checker")]
        answers = [answer(eyes.ask(ASK.format(MARKER * len(media) + "Look."), *media)) for media in asked]
        assert len(set(map(tuple, answers))) == len(asked), name


def test_a_picture_is_encoded_once_for_all_who_show_it(eyes_of: Callable[..., Eyes]) -> None:
    eyes = eyes_of("llava", n_parallel=8)
    before = eyes.encoded
    seqs = [eyes.submit(ASK.format(f"Chat {number}: {MARKER}"), "checker") for number in range(8)]
    eyes.runner.run()
    assert eyes.encoded == before + 1
    alone = eyes_of("llava", n_parallel=1)
    for number, seq in enumerate(seqs):
        assert answer(seq) == answer(alone.ask(ASK.format(f"Chat {number}: {MARKER}"), "checker"))


def test_nothing_of_a_picture_is_shared_with_another_owner(eyes_of: Callable[..., Eyes]) -> None:
    eyes = eyes_of("llava", n_parallel=8)
    prompt = ASK.format(f"Whose? {MARKER}")
    before = eyes.encoded
    answers = [answer(eyes.ask(prompt, "gradient", cache_owner=owner)) for owner in ("a", "b", "a", "b")]
    assert eyes.encoded == before + 2
    assert len(set(map(tuple, answers))) == 1
    first, second = (eyes.submit(prompt, "gradient", cache_owner=owner) for owner in ("a", "b"))
    assert {span.key for span in first.spans}.isdisjoint(span.key for span in second.spans)
    eyes.runner.run()


def test_beginnings_end_between_pictures_never_inside(eyes_of: Callable[..., Eyes]) -> None:
    for name in ("llava", "qwen2vl", "idefics3"):
        eyes, fresh = eyes_of(name), eyes_of(name, prompt_cache=0)
        for media in (("checker", "gradient"), ("checker",), ("gradient", "checker"), ("checker", "checker"), ()):
            prompt = ASK.format(MARKER * len(media) + "Compare.")
            fresh.runner.forget()
            seq = eyes.ask(prompt, *media, sampling=LIKELIEST)
            assert answer(seq) == answer(fresh.ask(prompt, *media, sampling=LIKELIEST)), (name, media)
            spans = [(span.start, span.end) for span in seq.spans]
            assert not any(start < seq.n_reused < end for start, end in spans)


def test_a_picture_can_be_the_last_thing(eyes_of: Callable[..., Eyes]) -> None:
    for name in ("llava", "qwen2vl"):
        eyes = eyes_of(name)
        eyes.runner.forget()
        first, logits = eyes.measured("Look: " + MARKER, "checker")
        again, cached = eyes.measured("Look: " + MARKER, "checker", sampling=LIKELIEST)
        last = first.spans[-1].end == first.n_prompt  # Qwen has a token behind each picture
        assert again.n_reused == (first.spans[-1].start if last else first.spans[-1].end)
        assert np.abs(logits - cached).max() < 0.02
        assert np.abs(logits - eyes.measured("Look: " + MARKER, "gradient")[1]).max() > 0.5


@pytest.mark.parametrize(("name", "least"), [("llava", -1), ("qwen2vl", -1), ("gemma3wide", -1), ("qwen3vl", 1024)])
def test_with_a_seed_the_text_is_the_same_in_any_company(eyes_of: Callable[..., Eyes], name: str, least: int) -> None:
    eyes = eyes_of(name, rows="lone", image_min_tokens=least)
    prompt = ASK.format("word " * 60 + MARKER + "more " * 70 + MARKER + "Compare.")
    eyes.runner.forget()
    alone = answer(eyes.ask(prompt, "checker", "tall", sampling=SEEDED))
    assert answer(eyes.ask(prompt, "checker", "tall", sampling=SEEDED)) == alone, "again"
    others = [eyes.submit(ASK.format("word " * 40 * n + MARKER), "checker", num_predict=40) for n in range(4)]
    for _ in range(3):
        eyes.runner.step()
    among = eyes.submit(prompt, "checker", "tall", sampling=SEEDED)
    others.append(eyes.submit(prompt, "checker", "tall", sampling=Sampling(temperature=1.0)))
    eyes.runner.run()
    assert answer(among) == alone, "beside others"
    assert answer(eyes.ask(prompt, "checker", "tall", sampling=SEEDED)) == alone, "after them"
    eyes.ask(ASK.format("word " * 60 + MARKER + "other"), "checker", sampling=SEEDED)
    assert answer(eyes.ask(prompt, "checker", "tall", sampling=SEEDED)) == alone, "with the beginning of another"
    eyes.runner.forget()
    assert answer(eyes.ask(prompt, "checker", "tall", sampling=SEEDED)) == alone, "with nothing cached"


def test_an_aborted_picture_begins_again(eyes_of: Callable[..., Eyes]) -> None:
    """Where its rows share a position, llama.cpp drops those of earlier passes with those of the aborted one."""
    eyes = eyes_of("qwen2vl", image_min_tokens=1024)
    prompt = ASK.format(MARKER + "What is this?")
    eyes.runner.forget()
    wanted = answer(eyes.ask(prompt, "checker", sampling=LIKELIEST))
    eyes.runner.forget()
    decode, rows_passes = eyes.runner.context.decode, []

    def aborted_once(batch: Any) -> int:
        if isinstance(batch, RowsBatch):
            rows_passes.append(batch.size)
            if len(rows_passes) == 2:
                eyes.runner.context.abort.set()
                code = decode(batch)
                eyes.runner.context.abort.clear()
                assert code == ABORTED
                return code
        return decode(batch)

    with patch.object(eyes.runner.context, "decode", aborted_once):
        assert answer(eyes.ask(prompt, "checker", sampling=LIKELIEST)) == wanted
    assert len(rows_passes) > 4, "all of the picture was computed again"


def test_what_is_cancelled_within_a_picture_leaves_what_is_before_it(eyes_of: Callable[..., Eyes]) -> None:
    for name in ("qwen2vl", "qwen25vl"):
        eyes = eyes_of(name, image_min_tokens=1024)
        prompt = ASK.format("A text of some length before it. " + MARKER + "What is this?")
        eyes.runner.forget()
        wanted = answer(eyes.ask(prompt, "checker", sampling=LIKELIEST))
        eyes.runner.forget()
        seq = eyes.submit(prompt, "checker", sampling=LIKELIEST)
        decode = eyes.runner.context.decode

        def cancelled(batch: Any, seq: Running = seq, decode: Callable[[Any], int] = decode) -> int:
            if isinstance(batch, RowsBatch) and seq.n_cached > seq.spans[0].start:
                raise InterruptedError
            return decode(batch)

        with patch.object(eyes.runner.context, "decode", cancelled), pytest.raises(InterruptedError):
            eyes.runner.run()
        assert seq.spans[0].start < seq.n_cached < seq.spans[0].end
        eyes.runner.loop.cancel(seq.id)
        again = eyes.ask(prompt, "checker", sampling=LIKELIEST)
        assert again.n_reused == seq.spans[0].start
        assert answer(again) == wanted


def test_who_is_suspended_goes_on_with_its_pictures(eyes_of: Callable[..., Eyes]) -> None:
    for name in ("qwen2vl", "llava", "gemma3"):
        alone, tight = eyes_of(name), eyes_of(name, n_ctx=512, n_cells=768, n_parallel=8)
        prompts = [ASK.format(f"{number} " * 30 + MARKER + "Describe.") for number in range(6)]
        wishes = {"num_predict": 200, "num_ctx": 512, "sampling": LIKELIEST}
        seqs = [tight.submit(prompt, "checker", **wishes) for prompt in prompts]
        tight.runner.run()
        assert not tight.runner.failures()
        for seq, prompt in zip(seqs, prompts, strict=True):
            expected = alone.ask(prompt, "checker", **wishes)
            same = [a == b for a, b in zip(answer(seq), answer(expected), strict=False)]
            assert all(same[:20]), name  # later ones may be ties, as company changes sums


def test_a_full_context_with_pictures_ends_the_answer(eyes_of: Callable[..., Eyes]) -> None:
    eyes = eyes_of("llava")
    seq = eyes.ask(ASK.format(MARKER + "x"), "checker", num_ctx=256, num_predict=1000, shift=True)
    assert eyes.runner.done(seq).reason == "length"
    assert len(seq.tokens) == 256
    text = eyes.ask(ASK.format("x"), num_ctx=256, num_predict=1000, shift=True)
    assert text.n_generated == 1000


def test_penalties_do_not_see_rows(eyes_of: Callable[..., Eyes]) -> None:
    eyes = eyes_of("llava")
    free = answer(eyes.ask(ASK.format(MARKER), "checker", sampling=PLAIN))
    penalties = {"repeat_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5, "repeat_last_n": -1}
    held = answer(eyes.ask(ASK.format(MARKER), "checker", sampling=Sampling(temperature=0, **penalties)))
    assert held != free
    dry = Sampling(temperature=0, repeat_penalty=1.0, dry_multiplier=2.0, dry_allowed_length=1)
    assert len(answer(eyes.ask(ASK.format(MARKER), "checker", sampling=dry))) == 16


def test_a_cancelled_encode_is_given_up(eyes_of: Callable[..., Eyes]) -> None:
    eyes = eyes_of("qwen2vl", image_min_tokens=1024)
    eyes.runner.forget()
    encoder = eyes.runner.loop.encoder
    assert encoder is not None
    seq = eyes.submit(ASK.format(MARKER), "large")
    encode = encoder._projector.encode
    nodes = []

    def cancelled(chunk: Any, stopped: Callable[[], bool]) -> Any:
        before = encoder.nodes
        asked = []

        def stop() -> bool:
            asked.append(True)
            if len(asked) == 2:
                encoder.want({})
            return stopped()

        try:
            return encode(chunk, stop)
        finally:
            nodes.append(encoder.nodes - before)

    with patch.object(encoder._projector, "encode", cancelled):
        eyes.runner.step()
    assert nodes[0] < 64, "it went on"
    eyes.runner.loop.cancel(seq.id)
    wanted = REFERENCE["qwen2vl"]["cases_with_image_min_tokens_1024"]["one image"]
    again = eyes.ask(wanted["prompt"], *wanted["media"], sampling=PLAIN)
    assert answer(again) == wanted["tokens"]


@pytest.mark.parametrize("name", ["llava", "qwen2vl", "idefics3"])
def test_pictures_are_known_on_disk_by_what_they_show(name: str, tmp_path: Path) -> None:
    text, projector = files_of(name)
    wishes: dict[str, Any] = {"path": str(text), "projector": str(projector), "n_ctx": 4096, "n_cells": 8192}
    states = StateFolder(tmp_path / "cache", 1 << 30)
    prompt = ASK.format("word " * 60 + MARKER + "more " * 300 + MARKER + "Compare.")

    def start() -> Eyes:
        return Eyes(Runner(states=states, n_parallel=2, row_cache=1 << 26, **wishes))

    first = start()
    asked = first.ask(prompt, "checker", "tall", sampling=LIKELIEST, num_predict=4)
    first.runner.streams.write_all()
    first.runner.forget()
    first.runner.close()
    second = start()
    second.ask("Look: " + MARKER, "gradient", sampling=LIKELIEST)  # which takes the first one's ids
    encoded = second.encoded
    again = second.ask(prompt, "checker", "tall", sampling=LIKELIEST, num_predict=4)
    assert (again.tier, again.n_reused) == ("disk", again.n_prompt - 1)
    assert second.encoded == encoded, "nothing is looked at"
    assert answer(again) == answer(asked)
    other = second.ask(prompt, "checker", "gradient", sampling=LIKELIEST, num_predict=4)
    digests = [cast(tuple[bytes, int, int], span.key)[0] for span in other.spans]
    second_picture = digests.index(next(digest for digest in digests if digest != digests[0]))
    assert other.spans[second_picture - 1].end <= other.n_reused <= other.spans[second_picture].start
    other = second.ask(prompt, "gradient", "tall", sampling=LIKELIEST, num_predict=4)
    assert other.n_reused <= other.spans[0].start
    second.runner.close()
    states.close()
