"""Short ways to the end of a grammar."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher

from engine.runner.ending import Ending, Goals
from engine.runner.grammar import Grammars
from engine.runner.vocabulary import Vocabulary

PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "population": {"type": "integer"},
        "climate": {"enum": ["mild", "harsh"]},
        "twins": {"type": "array", "items": {"type": "string", "minLength": 3}, "minItems": 2},
        "note": {"type": "string"},
        "capital": {"type": "boolean"},
    },
    "required": ["city", "population", "climate", "twins", "capital"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary)


def finish(grammars: Grammars, vocabulary: Vocabulary, rules: str, begun: str, *closing: str) -> str | None:
    """The whole text, if an end is found for what has begun."""
    words = grammars._words
    matcher = LLMatcher(words.tokenizer, rules, log_level=0)
    tokens = vocabulary.tokenize(begun, add_special=False).tolist()
    assert matcher.consume_tokens(tokens)
    marks = words.ending.tokens(vocabulary.tokenize(mark, add_special=False)[0] for mark in closing)
    plan = words.ending.plan(matcher, Goals(marks, []))
    assert matcher.rollback(len(tokens)), "the matcher has not stayed where it was"
    return None if plan is None else vocabulary.detokenize([*tokens, *plan])


def json_rules(schema: Any) -> str:
    return f"start: %json {json.dumps(schema)}"


@pytest.mark.parametrize(
    ("begun", "end"),
    [
        ("", '{"":""}'),
        ('{"a', '{"a":""}'),
        ('{"a": 1', '{"a": 1}'),
        ('{"a": -', '{"a": -0}'),
        ('{"a": [[[', '{"a": [[[""]]]}'),
        ('{"a": {"b": "x \\', '{"a": {"b": "x \\""}}'),
        ('{"a": "one } two ]', '{"a": "one } two ]"}'),
    ],
)
def test_what_is_open_is_closed(grammars: Grammars, vocabulary: Vocabulary, begun: str, end: str) -> None:
    assert finish(grammars, vocabulary, json_rules({"type": "object"}), begun) == end


@pytest.mark.parametrize("begun", ["", '{"city": "Par', '{"city":"","population":-1', '{"city":"","population":1,"cl'])
def test_what_is_required_is_there(grammars: Grammars, vocabulary: Vocabulary, begun: str) -> None:
    text = finish(grammars, vocabulary, json_rules(PLACE), begun)
    assert text is not None
    assert text.startswith(begun)
    jsonschema.validate(json.loads(text), PLACE)
    assert "note" not in json.loads(text)


def test_a_mark_ends_text_and_never_a_string(grammars: Grammars, vocabulary: Vocabulary) -> None:
    rules = 'start: thoughts "<tool_call>" %json {"type":"object"} "</tool_call>"\nthoughts[lazy]: /(.|\\n)*<\\/think>/'
    text = finish(grammars, vocabulary, rules, 'Well, "so', "</think>", "</tool_call>")
    assert text == 'Well, "so</think><tool_call>{"":""}</tool_call>'


BARE = """start: "<p>" VALUE "<p>" VALUE
VALUE: (TEXT & ~(TEXT "</p>" TEXT)) "</p>\\n"
TEXT: /(.|\\n)*/"""


@pytest.mark.parametrize("begun", ["", "<p>", "<p>so {it", "<p>\n</", '<p>a</p>\n<p>"quoted'])
def test_a_value_without_quotes_ends_with_its_tag(grammars: Grammars, vocabulary: Vocabulary, begun: str) -> None:
    words = grammars._words
    matcher = LLMatcher(words.tokenizer, BARE, log_level=0)
    tokens = vocabulary.tokenize(begun, add_special=False).tolist()
    assert matcher.consume_tokens(tokens)
    closing = vocabulary.tokenize("</p>\n", add_special=False).tolist()
    plan = words.ending.plan(matcher, Goals(words.ending.tokens(()), [closing]))
    assert plan is not None
    assert vocabulary.detokenize([*tokens, *plan]).count("</p>\n") == 2


def test_thoughts_end_with_their_own_tag_however_many_others_there_are(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    rules = 'start: thoughts "<p>" VALUE\nthoughts[lazy]: /(.|\\n)*<\\/t>/\nVALUE: TEXT "</p>"\nTEXT: /[^<]*/'
    words = grammars._words
    matcher = LLMatcher(words.tokenizer, rules, log_level=0)
    closings = [vocabulary.tokenize(text, add_special=False).tolist() for text in ("</p>", "</t>")]
    plan = words.ending.plan(matcher, Goals(words.ending.tokens(()), closings))
    assert plan is not None
    assert vocabulary.detokenize(plan).startswith("</t><p>")


def test_where_there_is_no_end(grammars: Grammars, vocabulary: Vocabulary) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert finish(grammars, vocabulary, json_rules(endless), "") is None


def test_a_vocabulary_without_json(vocabulary: Vocabulary) -> None:
    ending = Ending([b"a", b"b", b"end"], [2])
    assert ending.tokens([1]).tolist() == [2]
