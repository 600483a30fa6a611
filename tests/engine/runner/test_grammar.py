"""A real model's answers under grammars."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

from engine.messages import Failed, Grammar, Sampling, Triggers
from engine.runner.grammar import GrammarRejected, Grammars, lark
from engine.runner.grammar_check import BYTES, ByteVocabulary
from engine.runner.vocabulary import Vocabulary
from tests.engine.runner.harness import PLAIN, Runner, chat

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SAMPLINGS = {
    "greedy": PLAIN,
    "penalties": Sampling(temperature=0, repeat_penalty=1.5, presence_penalty=1.0),
    "hot": Sampling(temperature=1.5),
    "whole vocabulary": Sampling(temperature=1.5, top_k=0, top_p=1.0),
    "mirostat 1": Sampling(mirostat=1),
    "mirostat 2": Sampling(mirostat=2),
    "dry": Sampling(temperature=1.5, dry_multiplier=0.8),
    "top n sigma": Sampling(temperature=1.5, top_n_sigma=1.0),
    "bias": Sampling(temperature=1.5, logit_bias=((5, 1000.0), (7, -1000.0))),
}


def json_grammar(schema: Any) -> Grammar:
    spaced = {**schema, "x-guidance": {"whitespace_pattern": "[ \n]{1,20}"}}
    return Grammar(f"start: %json {json.dumps(spaced)}")


def ways(*texts: str) -> Grammar:
    return Grammar("start: " + " | ".join(json.dumps(text) for text in texts))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_every_answer_is_as_the_schema_says(runner: Runner, sampling: Sampling) -> None:
    grammar = json_grammar(PERSON)
    seqs = [
        runner.submit(
            chat(f"Tell me about {seed} people as JSON"),
            num_predict=80,
            sampling=msgspec.structs.replace(sampling, seed=seed),
            grammar=grammar,
        )
        for seed in range(8)
    ]
    runner.run()
    for seq in seqs:
        jsonschema.validate(json.loads(runner.text(seq)), PERSON)
        assert list(json.loads(runner.text(seq))) == ["name", "age", "tags"]
        assert runner.done(seq).tokens <= 80


def test_an_answer_that_must_end_ends_without_another_pass(runner: Runner) -> None:
    seq = runner.submit(chat("What is the capital of France?"), grammar=ways("It is Lyon"))
    runner.run()
    assert runner.text(seq) == "It is Lyon"
    assert (runner.done(seq).reason, runner.done(seq).tokens) == ("stop", seq.n_generated)
    assert not runner.context.vocabulary.ends(seq.tokens[-1])


def test_an_answer_that_may_end_ends_where_the_model_wants(runner: Runner) -> None:
    question = chat("What is the capital of France?")
    known = "The capital of France is Paris."
    assert runner.ask(question, grammar=ways(known, f"{known} It is large.")) == known


def test_the_model_chooses_among_what_is_allowed(runner: Runner) -> None:
    for country, city in (("France", "Paris"), ("Japan", "Tokyo")):
        allowed = ways(*(f"The capital of {country} is {name}." for name in ("London", "Paris", "Tokyo")))
        assert city in runner.ask(chat(f"What is the capital of {country}?"), grammar=allowed)


def test_eight_with_grammars_beside_some_without(runner: Runner) -> None:
    questions = ["What is the capital of France?", "Count to 20"]
    alone = [runner.ask(chat(question)) for question in questions]
    schemas = [{"type": "array", "items": {"const": n}, "minItems": 1, "maxItems": 3} for n in range(6)]
    hot = Sampling(temperature=1.5, seed=3)
    held = [runner.submit(chat(f"List {s}"), sampling=hot, grammar=json_grammar(s)) for s in schemas]
    free = [runner.submit(chat(question)) for question in questions]
    runner.run()
    assert [runner.text(seq) for seq in free] == alone
    for seq, schema in zip(held, schemas, strict=True):
        jsonschema.validate(json.loads(runner.text(seq)), schema)


def test_a_mark_that_is_a_control_token(runner: Runner) -> None:
    mark = "<|im_start|>"
    grammar = Grammar('start: until_0 "done"', (mark,))
    bias = Sampling(temperature=0, logit_bias=((token(runner, mark), 30.0),))
    text = runner.ask(chat("Count to 5"), sampling=bias, preserved=(mark,), grammar=grammar)
    assert text.endswith(f"{mark}done")
    assert runner.ask(chat("Hi"), preserved=(mark,), grammar=Grammar("start: mark_0", (mark,))) == mark


@pytest.mark.parametrize("text", ["<|im_end|>x", "a<|im_end|>b", "a<|im_end|>", "<|endoftext|>x", "<|im_start|>x"])
def test_the_name_of_a_control_token_is_text(runner: Runner, text: str) -> None:
    assert runner.ask(chat("Hi"), grammar=ways(text)) == text
    assert runner.ask(chat("Hi"), preserved=("<|im_start|>",), grammar=ways(f"{text}1", f"{text}2"))[:-1] == text
    assert runner.ask(chat("Hi"), grammar=json_grammar({"const": text})) == json.dumps(text)


def test_text_before_a_grammar_that_begins_behind_a_mark(runner: Runner) -> None:
    grammar = Grammar('start: mark_0 until_1 GAP? "Yes"', ("<think>", "</think>"))
    text = runner.ask(chat("Count to 5 /think"), grammar=grammar)
    thoughts, _, answer = text.partition("</think>")
    assert thoughts.startswith("<think>\nI will count")
    assert answer.strip() == "Yes"


def token(runner: Runner, text: str) -> int:
    (token,) = runner.context.vocabulary.tokenize(text, add_special=False)
    return token


def never_ending(runner: Runner) -> Sampling:
    """Always the same word."""
    return Sampling(temperature=0, repeat_penalty=1.0, logit_bias=((token(runner, " the"), 50.0),))


def test_however_short_an_answer_must_be_it_is_whole(runner: Runner) -> None:
    item = {"properties": {"name": {"type": "string"}, "size": {"type": "integer"}, "sold": {"type": "boolean"}}}
    item |= {"type": "object", "required": ["name", "size", "sold"], "additionalProperties": False}
    schema = {"type": "array", "items": item}
    grammar, hot = json_grammar(schema), Sampling(temperature=1.5)
    seqs = {
        limit: runner.submit(
            chat("List 9 fruits as JSON"),
            num_predict=limit,
            sampling=msgspec.structs.replace(hot, seed=limit),
            grammar=grammar,
        )
        for limit in range(4, 120, 3)
    }
    runner.run()
    for limit, seq in seqs.items():
        jsonschema.validate(json.loads(runner.text(seq)), schema)
        assert runner.done(seq).tokens <= limit
    assert any(len(json.loads(runner.text(seq))) > 1 for seq in seqs.values()), "the test is about nothing"


@pytest.mark.parametrize("num_predict", [12, 40, 300])
@pytest.mark.parametrize("shift", [True, False])
def test_before_its_last_token_an_answer_is_completed(runner: Runner, num_predict: int, shift: bool) -> None:
    seq = runner.submit(
        chat("Tell me a story"),
        num_predict=num_predict,
        num_ctx=1024 if shift else 256,
        shift=shift,
        sampling=Sampling(temperature=1.0, seed=1, logit_bias=((token(runner, '"'), -1000.0),)),
        grammar=json_grammar({"type": "string"}),
    )
    runner.run()
    assert isinstance(json.loads(runner.text(seq)), str)
    assert runner.done(seq).reason == "length"
    assert num_predict - 20 <= runner.done(seq).tokens <= num_predict or not shift


def test_thinking_that_does_not_end_is_ended(runner: Runner) -> None:
    grammar = Grammar('start: mark_0 until_1 GAP? %json {"type":"object"}', ("<think>", "</think>"))
    endless = Sampling(temperature=1.0, seed=1, logit_bias=((token(runner, "</think>"), -1000.0),))
    seq = runner.submit(chat("Count to 5 /think"), num_predict=100, sampling=endless, grammar=grammar)
    runner.run()
    assert isinstance(json.loads(runner.text(seq).partition("</think>")[2]), dict)
    assert runner.done(seq).reason == "length"


def test_an_answer_in_a_loop_is_completed(runner: Runner) -> None:
    seq = runner.submit(
        chat("Tell me a story"), num_predict=500, sampling=never_ending(runner), grammar=json_grammar(PERSON)
    )
    runner.run()
    jsonschema.validate(json.loads(runner.text(seq)), PERSON)
    assert " the" * 30 in runner.text(seq)
    assert (runner.done(seq).reason, runner.done(seq).tokens < 100) == ("stop", True)


@pytest.mark.parametrize("rules", [f'start: "{"x" * 700}"', "start: /0{600}/"])
def test_what_the_grammar_repeats_is_no_loop(runner: Runner, rules: str) -> None:
    seq = runner.submit(chat("Hi"), num_predict=900, grammar=Grammar(rules))
    runner.run()
    assert len(runner.text(seq)) in (700, 600)
    assert runner.done(seq).reason == "stop"


def test_a_loop_without_an_end_in_reach_goes_on_and_is_cut(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in ("_AT_FIRST", "_AT_LENGTH", "_BETWEEN_TOKENS"):  # no search would find one
        monkeypatch.setattr(f"engine.runner.matcher.{limits}", (2_500, 0.05))
    seq = runner.submit(
        chat("Hi"), num_predict=600, sampling=never_ending(runner), grammar=Grammar("start: /( [a-z]+){2000}/")
    )
    runner.run()
    assert (runner.done(seq).reason, runner.done(seq).tokens) == ("length", 600)


def test_an_answer_that_may_go_on_ends_where_there_is_no_room_for_more() -> None:
    matcher = Grammars(ByteVocabulary()).matcher(Grammar('start: "ab" ("\\nab"){0,3}'))
    matcher.set_budget(3)
    assert [matcher.accept(byte) for byte in b"ab"] == list(b"ab")
    assert matcher.accept(ord("\n")) == BYTES  # the token that ends an answer
    assert matcher.finished
    assert matcher.cut_short


def test_an_answer_that_is_led_to_its_end_ends_there() -> None:
    matcher = Grammars(ByteVocabulary()).matcher(Grammar('start: /a+/ "b" ("\\nab"){0,3} "\\n"?'))
    matcher.set_budget(4096)
    matcher.accept(ord("a"))
    assert matcher.leave_loop()
    assert not matcher.finished
    assert matcher.accept(ord("b")) == ord("b")
    assert matcher.finished


def test_of_lists_that_end_by_a_space_the_shortest_is_found() -> None:
    matcher = Grammars(ByteVocabulary()).matcher(Grammar('start: "[" "1" (", 1"){0,15} "\\n]"'))
    matcher.set_budget(5)
    text = [matcher.accept(byte) for byte in b"[1"]
    assert bytes([*text, matcher.accept(ord(",")), matcher.accept(ord("]"))]) == b"[1\n]"


def test_text_of_a_fixed_length_keeps_an_end_in_reach() -> None:
    """Each character leads to another end than was known, which must not need a long search each time."""
    sku = {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}
    item = {"type": "object", "properties": {"sku": sku, "count": {"type": "integer"}}, "required": ["sku", "count"]}
    zip_code = {"type": "string", "minLength": 5, "maxLength": 5}
    fields = {"zip": zip_code, "lines": {"type": "array", "items": item, "maxItems": 3}, "express": {"type": "boolean"}}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    lines = ",".join(f'{{"sku": "{sku}", "count": 41}}' for sku in ("POE-16", "YSK-60", "HTC-06"))
    answer = f'{{"zip": "Sestz", "lines": [{lines}], "express": false}}'.encode()
    matcher = Grammars(ByteVocabulary()).matcher(json_grammar(schema))
    matcher.set_budget(300)
    assert bytes(matcher.accept(byte) for byte in answer) == answer
    assert not matcher.cut_short


def test_a_grammar_that_becomes_too_much_fails_its_answer_alone(runner: Runner) -> None:
    beside = runner.submit(chat("What is the capital of France?"))
    seq = runner.submit(chat("Hi"), grammar=Grammar(f"start: /{'x?' * 3000}{'x' * 3000}/"))
    runner.run()
    (failure,) = runner.failures()
    assert isinstance(failure, Failed)
    assert (failure.id, failure.kind) == (seq.id, "request")
    assert failure.detail == "the answer cannot go on as its grammar demands: it is too complex"
    assert runner.text(beside) == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("start: nothing", "nothing"),
        ('start: "a', "lexer error"),
        ('start: %json {"type":"string","pattern":"(?=a)b"}', "look-around"),
        ('start: %json {"type":"nosuch"}', "nosuch"),
    ],
)
def test_what_is_no_grammar_is_refused(runner: Runner, rules: str, why: str) -> None:
    with pytest.raises(GrammarRejected, match=why) as caught:
        runner.grammars.matcher(Grammar(rules))
    assert "\n" not in str(caught.value)


def test_marks_in_a_vocabulary_without_them() -> None:
    rules = "start: until_0 until_1 mark_2"
    text = lark(Grammar(rules, ("<a>", 'say "b"', "c")), {"<a>": 7})
    assert text.splitlines()[-7:] == [
        "mark_0: <[7]>",
        'mark_1: "say \\"b\\""',
        'mark_2: "c"',
        'FREE_0: TEXT & ~(TEXT ("say \\"b\\"" | "c") TEXT)',
        "until_0: FREE_0 <[7]>",
        'FREE_1: TEXT & ~(TEXT ("c") TEXT)',
        'until_1[lazy]: FREE_1 "say \\"b\\""',
    ]


@pytest.mark.parametrize(
    ("control", "lines"), [({}, ['MARK_0: "<a>"', 'tail_0: ""']), ({"<a>": 7}, ['MARK_0: ""', "tail_0: <[7]>"])]
)
def test_a_mark_at_the_end_of_a_terminal(control: dict[str, int], lines: list[str]) -> None:
    text = lark(Grammar('start: VALUE tail_0\nVALUE: TEXT "</" MARK_0', ("<a>", "b")), control)
    assert [line for line in text.splitlines() if line.startswith(("MARK", "tail"))] == lines


def test_every_token_that_ends_an_answer_may_end_it(vocabulary: Vocabulary) -> None:
    matcher = Grammars(vocabulary).matcher(Grammar('start: "a" "b"?'))
    (a,) = vocabulary.tokenize("a", add_special=False)
    matcher.accept(a)
    row = np.zeros(vocabulary.size, np.float32)
    matcher.restrict(row)
    (b,) = vocabulary.tokenize("b", add_special=False)
    assert set(np.flatnonzero(row == 0).tolist()) == {b, *vocabulary.end_tokens()}


def test_a_cancelled_answer_leaves_its_place(runner: Runner) -> None:
    seq = runner.submit(chat("Hi"), grammar=json_grammar(PERSON))
    runner.step()
    runner.loop.cancel(seq.id)
    assert runner.loop.idle


CALLS = Grammar('start: "<tool_call>" "\\n{" /[a-z]{3}/ "}" "</tool_call>"', whole=False)
TAG = Triggers(("<tool_call>",))
CALLER = (
    "<|im_start|>system\n# Tools\n\nYou may call these functions:\n<tools>\n"
    '{"type": "function", "function": {"name": "get_current_weather", "parameters": {"type": "object", "properties": '
    '{"city": {"type": "string"}}}}}\n</tools>\n\nTo call a function, answer with:\n<tool_call>\n'
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    "<|im_start|>user\nWhat is the weather in Paris?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


@pytest.mark.parametrize("first", [0, 1, 50])
def test_a_call_is_held_to_a_grammar_that_comes_early_or_late(runner: Runner, first: int) -> None:
    """After `first` passes."""
    free = runner.ask(CALLER)
    assert free.startswith('<tool_call>\n{"name": "get_current_weather"')
    seq = runner.submit(CALLER, triggers=TAG)
    other = runner.submit(chat("Hello!"))
    for _ in range(first):
        runner.step()
    if first == 50:
        assert runner.loop.idle, "nothing is left to do before it comes"
        assert runner.text(seq) == "<tool_call>"
        assert runner.done(other).reason == "stop"
    runner.loop.constrain(seq.id, runner.grammars.call_grammar(CALLS))
    runner.run()
    assert re.match(r"<tool_call>\n\{[a-z]{3}\}</tool_call>", runner.text(seq)), runner.text(seq)


def test_a_grammar_that_cannot_be_used_leaves_the_answer_free(runner: Runner) -> None:
    free = runner.ask(CALLER)
    seq = runner.submit(CALLER, triggers=TAG)
    runner.run()
    assert runner.text(seq) == "<tool_call>"
    runner.loop.constrain(seq.id, None)
    runner.run()
    assert runner.text(seq) == free


def test_others_are_admitted_while_one_waits_for_its_grammar(runner: Runner) -> None:
    held = [runner.submit(CALLER, triggers=TAG) for _ in range(8)]
    runner.run()
    assert runner.loop.idle
    waiting = runner.submit(chat("Hello!"))
    assert runner.loop.idle, "all places are taken"
    runner.loop.cancel(held[0].id)
    runner.run()
    assert runner.done(waiting).reason == "stop"
    for seq in held:
        runner.loop.cancel(seq.id)


def test_a_sleeping_grammar_changes_nothing(runner: Runner) -> None:
    for sampling in SAMPLINGS.values():
        seeded = msgspec.structs.replace(sampling, seed=3)
        free = runner.ask(chat("Count to 20"), sampling=seeded)
        assert runner.ask(chat("Count to 20"), sampling=seeded, triggers=TAG) == free


def test_a_grammar_for_an_answer_that_has_ended(runner: Runner) -> None:
    runner.loop.constrain(99, runner.grammars.call_grammar(CALLS))
