"""Log-probabilities beside a softmax of the test's own, from a context of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Chunk, Grammar, Sampling, ScoredChunk, ScoredToken
from engine.runner.child import GRID
from engine.runner.detokenizer import IncrementalDetokenizer
from engine.runner.logprobs import IMPOSSIBLE, AnswerLogprobs, likeliest, log_softmax
from engine.runner.preprocess import MOST_SCORED, RequestRejected, prompt_tokens
from engine.runner.sequence import Sequence as Running
from engine.runner.vocabulary import Vocabulary
from tests.engine.runner.harness import PLAIN, TINYCHAT, Runner, chat, submit

PENALTIES = Sampling(temperature=0.9, seed=3, repeat_penalty=1.4, presence_penalty=0.7)
Softmax = Callable[[Sequence[int], Iterable[int]], npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def softmax(shared_runner: Runner) -> Iterator[Softmax]:
    """Log-probabilities of every token behind each of the tokens of a text: rows × vocabulary.

    The text is computed in pieces of so many tokens, as the runner does it: other pieces give other roundings.
    """
    params = shared_runner.context.params()  # caches of another type give numbers that differ by some hundredths
    model = llama_cpp.Llama(
        str(TINYCHAT),
        n_ctx=1024,
        logits_all=True,
        n_threads=1,
        verbose=False,
        flash_attn=True,
        type_k=params.type_k,
        type_v=params.type_v,
    )

    def compute(tokens: Sequence[int], pieces: Iterable[int]) -> npt.NDArray[np.float64]:
        model.reset()
        for piece in pieces:
            if rest := tokens[model.n_tokens : model.n_tokens + piece]:
                model.eval(rest)
        logits = model.scores[: len(tokens)].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    yield compute
    model.close()


def scores(runner: Runner, seq: Running) -> list[ScoredToken]:
    """The entries that a request was sent."""
    return [score for e in runner.events if isinstance(e, ScoredChunk) and e.id == seq.id for score in e.scores]


def answered(runner: Runner, seq: Running) -> list[int]:
    """The tokens of an answer, without one that only ends it."""
    tokens = list(seq.tokens[seq.n_prompt :])
    return tokens[:-1] if runner.context.vocabulary.ends(tokens[-1]) else tokens


def check(runner: Runner, seq: Running, softmax: Softmax, *, top: int = 0) -> None:
    """All entries of a finished answer are right, each with the `top` likeliest tokens."""
    tokens, entries = answered(runner, seq), scores(runner, seq)
    whole, rest = divmod(seq.n_prompt, GRID)
    pieces = [*[GRID] * whole, rest, *[1] * len(tokens)]
    rows = softmax([*seq.tokens[: seq.n_prompt], *tokens], pieces)[seq.n_prompt - 1 :]
    piece = runner.context.vocabulary.piece
    assert [entry.data for entry in entries] == [piece(token) for token in tokens]
    for token, entry, row in zip(tokens, entries, rows, strict=False):
        assert entry.logprob == pytest.approx(row[token], abs=1e-4)
        best = np.argsort(-row)[:top]
        assert [number for _, number in entry.top] == pytest.approx(row[best], abs=1e-4)
        assert [number for _, number in entry.top] == sorted((number for _, number in entry.top), reverse=True)
        assert not top or entry.top[0][0] == piece(best[0]) or row[best[0]] - row[best[1]] < 1e-4


def test_of_a_greedy_answer(runner: Runner, softmax: Softmax) -> None:
    seq = runner.submit(chat("Tell me a joke."), logprobs=True, top_logprobs=5)
    runner.run()
    assert len(scores(runner, seq)) == runner.done(seq).tokens - 1
    check(runner, seq, softmax, top=5)


def test_penalties_bias_and_temperature_do_not_count(runner: Runner, softmax: Softmax) -> None:
    biased = Sampling(temperature=1.5, seed=1, logit_bias=((300, 3.0), (400, -100.0)))
    seqs = [
        runner.submit(chat("Tell me a story."), logprobs=True, top_logprobs=20, sampling=sampling)
        for sampling in (PENALTIES, biased, Sampling(temperature=2, top_k=0, seed=5))
    ]
    runner.run()
    for seq in seqs:
        assert len(scores(runner, seq)) >= 40
        check(runner, seq, softmax, top=20)


def test_a_grammar_does_not_count(runner: Runner, softmax: Softmax) -> None:
    schema = {"type": "object", "properties": {"zq": {"enum": ["vvv", "www"]}}, "required": ["zq"]}
    seq = runner.submit(
        chat("Hi"), logprobs=True, top_logprobs=3, grammar=Grammar(f"start: %json {json.dumps(schema)}")
    )
    runner.run()
    assert json.loads(runner.text(seq))["zq"] in ("vvv", "www")
    check(runner, seq, softmax, top=3)
    assert min(entry.logprob for entry in scores(runner, seq)) < -5


def test_the_forced_end_of_a_grammar_has_those_of_its_own_tokens(runner: Runner, softmax: Softmax) -> None:
    grammar = Grammar('start: %json {"type": "array", "items": {"type": "string"}}')
    seq = runner.submit(chat("Tell me a story."), num_predict=20, logprobs=True, top_logprobs=1, grammar=grammar)
    runner.run()
    assert runner.text(seq).endswith('"]')
    assert runner.done(seq).reason == "length"
    check(runner, seq, softmax, top=1)


def test_only_who_asks_is_told(runner: Runner, softmax: Softmax) -> None:
    questions = ["Count to 20", "Tell me a joke.", "Why is the sky blue?", "Who are you?"]
    seqs = [runner.submit(chat(q), logprobs=i % 2 == 1, top_logprobs=i) for i, q in enumerate(questions)]
    runner.run()
    for i, seq in enumerate(seqs):
        if i % 2:
            check(runner, seq, softmax, top=i)
        else:
            assert not any(isinstance(e, ScoredChunk) and e.id == seq.id for e in runner.events)
    assert [runner.text(seq) for seq in seqs] == runner.ask_all([chat(q) for q in questions])


def test_an_answer_beyond_its_context_has_an_entry_for_each_token(runner: Runner) -> None:
    ends = runner.context.vocabulary.end_tokens()
    never_ends = Sampling(temperature=0.9, seed=1, logit_bias=tuple((token, -np.inf) for token in ends))
    seq = runner.submit(chat("Tell me a story."), num_ctx=64, num_predict=400, logprobs=True, sampling=never_ends)
    runner.run()
    done = runner.done(seq)
    assert len(seq.tokens) < done.tokens
    assert len(scores(runner, seq)) == done.tokens - (done.reason == "stop")


def test_who_must_leave_for_others_has_an_entry_for_each_token(softmax: Softmax) -> None:
    small = Runner(n_ctx=512, n_cells=512, n_parallel=2)
    ends = small.context.vocabulary.end_tokens()
    likeliest_going_on = Sampling(temperature=0, logit_bias=tuple((token, -np.inf) for token in ends))
    wishes = {"num_predict": 270, "logprobs": True, "top_logprobs": 2, "sampling": likeliest_going_on}
    seqs = [small.submit(f"{i}. " + chat("Count to 60"), **wishes) for i in range(3)]
    left: set[int] = set()
    small.run(until=lambda: left.update(s.id for s in seqs if s.saved is not None) or False)
    assert left, "nobody had to leave: the test is about nothing"
    for seq in seqs:
        check(small, seq, softmax, top=2)
    small.close()


def test_chunks_count_their_tokens(runner: Runner) -> None:
    for wishes in ({}, {"logprobs": True}):
        seq = runner.submit(chat("Count to 20"), stop=("7, 9",), **wishes)
        runner.run()
        done = runner.done(seq)
        told = [e.tokens for e in runner.events if isinstance(e, Chunk) and e.id == seq.id]
        assert told == sorted(set(told))
        assert told[-1] <= done.tokens
        assert len(told) > done.tokens / 2


def test_the_tokens_of_a_stop_string_have_none(runner: Runner) -> None:
    whole = runner.submit(chat("Count to 20"), num_predict=200, logprobs=True)
    seq = runner.submit(chat("Count to 20"), num_predict=200, logprobs=True, stop=("6, 7", "nowhere"))
    runner.run()
    text = b"".join(entry.data for entry in scores(runner, seq)).decode()
    assert text == runner.text(seq)
    assert scores(runner, seq) == scores(runner, whole)[: len(scores(runner, seq))]
    assert (runner.done(seq).stop, runner.done(whole).stop) == ("6, 7", "")


def entries(pieces: list[bytes], stops: list[str]) -> tuple[list[list[bytes]], list[str], bool]:
    """For each piece of an answer and its end: the entries and the text that come out; whether a stop string came."""
    detokenizer = IncrementalDetokenizer(stops)
    logprobs = AnswerLogprobs(pieces.__getitem__, 0)
    logprobs.keep(np.zeros(len(pieces), np.float32))
    out, texts = [], []
    for token, piece in enumerate(pieces):
        texts.append(detokenizer.feed(piece))
        out.append([entry.data for entry in logprobs.add(token, texts[-1], detokenizer)])
        if detokenizer.stopped:
            return out, texts, True
    texts.append(detokenizer.flush())
    return [*out, [entry.data for entry in logprobs.flush()]], texts, False


def test_entries_wait_as_long_as_their_text() -> None:
    out, _, _ = entries([b"a<", b"/", b"x", b"<", b"/", b""], ["</s>"])
    assert out == [[b"a<"], [], [b"/", b"x"], [], [], [], [b"<", b"/", b""]]
    out, _, _ = entries([b"a", b"b<", b"/s", b">"], ["</s>"])
    assert out == [[b"a"], [b"b<"], [], []]


def test_half_characters_and_tokens_without_text_have_entries() -> None:
    out, texts, _ = entries([b"a", b"\xc3", b"\xa9", b"", b"\xe4\xbd"], [])
    assert out == [[b"a"], [], [b"\xc3", b"\xa9"], [b""], [], [b"\xe4\xbd"]]
    assert texts == ["a", "", "é", "", "", ""]


def test_a_stop_string_of_half_characters_takes_their_entries_along() -> None:
    out, texts, _ = entries([b"a", b"\xc3", b"\xa9"], ["é"])
    assert (out, texts) == ([[b"a"], [], []], ["a", "", ""])


@given(
    st.text(alphabet="ab<|é你🎉", max_size=40),
    st.lists(st.text(alphabet="ab<|é", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_entries_and_text_are_the_same_bytes(text: str, stops: list[str], sizes: list[int]) -> None:
    data, pieces = text.encode(), []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    out, texts, stopped = entries(pieces, stops)
    told = [piece for step in out for piece in step]
    assert told == pieces[: len(told)]
    shown = "".join(texts).encode()
    if stopped:  # the last one may end in the stop string
        assert b"".join(told[:-1]) == shown[: len(b"".join(told[:-1]))]
        assert len(b"".join(told)) >= len(shown)
    else:
        assert b"".join(told) == shown


def test_the_likeliest_are_those_of_a_sort() -> None:
    random = np.random.default_rng(1)
    for size in (1, 7, 90, 2048, 152_064):
        row = random.standard_normal(size).astype(np.float32).round(2)
        for k in (0, 1, 5, 20):
            assert likeliest(row, k).tolist() == np.argsort(-row, kind="stable")[:k].tolist()


def test_what_cannot_come_has_a_finite_number() -> None:
    row = np.array([1.0, -np.inf, 1.0, -1e30], np.float32)
    assert log_softmax(row).tolist() == pytest.approx([-np.log(2), IMPOSSIBLE, -np.log(2), IMPOSSIBLE])


def test_special_tokens_among_the_likeliest_have_no_bytes(runner: Runner, vocabulary: Vocabulary) -> None:
    assert vocabulary.piece(vocabulary.end) == b""
    seq = runner.submit(chat("What is the capital of France?"), logprobs=True, top_logprobs=20, sampling=PLAIN)
    runner.run()
    assert any(data == b"" for entry in scores(runner, seq) for data, _ in entry.top)


def check_prompt(runner: Runner, seq: Running, softmax: Softmax, *, top: int = 0) -> None:
    """The first chunk has an entry for each token of the prompt, and all but the first are right."""
    first = next(e for e in runner.events if isinstance(e, Chunk) and e.id == seq.id)
    assert isinstance(first, ScoredChunk)
    assert (first.text, first.tokens) == ("", 0)
    tokens = seq.tokens[: seq.n_prompt]
    assert [entry.data for entry in first.scores] == [runner.context.vocabulary.render(t, special=True) for t in tokens]
    assert math.isnan(first.scores[0].logprob)
    pieces = [MOST_SCORED] * len(tokens)
    for token, entry, row in zip(tokens[1:], first.scores[1:], softmax(tokens, pieces), strict=False):
        assert entry.logprob == pytest.approx(row[token], abs=1e-4)
        assert [number for _, number in entry.top] == pytest.approx(np.sort(row)[::-1][:top], abs=1e-4)


def test_of_a_prompt(runner: Runner, softmax: Softmax) -> None:
    runner.ask(chat("Tell me a joke."))  # nothing of it may be reused
    seq = runner.submit(chat("Tell me a joke."), num_predict=3, logprobs=True, top_logprobs=4, prompt_logprobs=True)
    runner.run()
    check_prompt(runner, seq, softmax, top=4)
    assert runner.done(seq).prompt_cached == 0
    assert runner.text(seq) == runner.ask(chat("Tell me a joke."), num_predict=3)


def test_of_prompts_beside_others(runner: Runner, softmax: Softmax) -> None:
    questions = ["Count to 20", "Tell me a story about a fox.", "Why is the sky blue?", "Who are you?", "Hello!"]
    others = [runner.submit(chat(q), logprobs=True) for q in questions[:3]]
    runner.step()
    seqs = [runner.submit(chat(q) * 3, num_predict=4, logprobs=True, prompt_logprobs=True) for q in questions]
    others += [runner.submit(chat(q) * 2, num_predict=4, logprobs=True) for q in questions[3:]]
    runner.run()
    for seq in seqs:
        check_prompt(runner, seq, softmax)
    for seq in others:
        check(runner, seq, softmax)


def test_a_prompt_of_tokens_is_taken_as_it_is(runner: Runner, softmax: Softmax) -> None:
    tokens = (5, 300, 301, 17, 44)
    seq = runner.submit("", tokens=tokens, num_predict=1, prompt_logprobs=True)
    runner.run()
    assert tuple(seq.tokens[: seq.n_prompt]) == tokens
    check_prompt(runner, seq, softmax)


def test_numbers_that_are_no_tokens_are_refused(vocabulary: Vocabulary) -> None:
    for wrong in (-1, vocabulary.size, 2**40):
        with pytest.raises(RequestRejected, match=f"prompt has {wrong}, which is no token"):
            prompt_tokens(vocabulary, submit("", tokens=(1, wrong)))


def test_a_prompt_that_must_wait_in_the_middle_begins_anew(runner: Runner, softmax: Softmax) -> None:
    seq = runner.submit(chat("Count to 20") * 3, num_predict=2, prompt_logprobs=True)
    runner.step()
    runner.step()
    assert 0 < seq.n_cached < seq.n_prompt
    runner.loop.admission.suspend(seq)
    runner.run()
    check_prompt(runner, seq, softmax)
