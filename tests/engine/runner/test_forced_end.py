"""The search for a short end of an answer under its grammar."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from engine.chat.grammar.json_grammar import json_rules
from engine.messages import Grammar
from engine.runner.forced_end import Effort, EndFinder, completed
from engine.runner.grammar import Grammars
from engine.runner.matcher import _BETWEEN_TOKENS
from engine.runner.vocabulary import Vocabulary
from tests.engine.chat.grammars import schema_matcher, written_at_random

PATIENCE = 200_000, 60.0  # tries and seconds; a search between two tokens has far fewer
TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


PLACE = {
    "type": "object",
    "properties": {
        "city": TEXT,
        "population": WHOLE,
        "climate": {"enum": ["mild", "harsh"]},
        "twins": {"type": "array", "items": {"type": "string", "minLength": 3}, "minItems": 2},
        "note": TEXT,
        "capital": {"type": "boolean"},
    },
    "required": ["city", "population", "climate", "twins", "capital"],
    "additionalProperties": False,
}
NODE = object_of(v=WHOLE, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
SUM = {"anyOf": [object_of(op={"enum": ["+"]}, l={"$ref": "#/$defs/e"}, r={"$ref": "#/$defs/e"}), object_of(num=WHOLE)]}
MANY = [f"property_{n}" for n in range(30)]
NO_SIGN = r'[^<>()[\]\.,;:\s@"]'
SHORTEST: dict[str, tuple[Any, str]] = {
    "anything": ({}, "0"),
    "an object": ({"type": "object"}, "{}"),
    "no array": ({"type": "array", "items": TEXT}, "[]"),
    "a few": ({"type": "array", "items": object_of(a=TEXT), "minItems": 3}, json.dumps([{"a": ""}] * 3)),
    "one certain character": ({"type": "string", "pattern": "^[0-9]+-[0-9]+$"}, '"0-0"'),
    "a blank": ({"type": "string", "pattern": "^[a-z]+ [a-z]+$"}, '"a a"'),
    "an umlaut": ({"type": "string", "pattern": "^[a-z]+é$"}, '"aé"'),
    "a backslash": ({"type": "string", "pattern": r"^[a-z]+\\x$"}, r'"a\\x"'),
    "a telephone": ({"type": "string", "pattern": r"^\(\d{3}\) \d{3}-\d{4}$"}, '"(000) 000-0000"'),
    "a host": ({"type": "string", "pattern": r"^(?!.*--)[a-z0-9][a-z0-9-]*[a-z0-9]\.(com|org)$"}, '"aa.com"'),
    "an uncommon character": ({"type": "string", "pattern": "Q.*7"}, '"Q7"'),
    "a word": ({"type": "string", "pattern": r"\bfoo\b"}, '"foo"'),
    "a long text": ({"type": "string", "minLength": 400}, json.dumps("a" * 400)),
    "a tree": ({"$defs": {"node": NODE}, "$ref": "#/$defs/node"}, '{"v":0,"next":null}'),
    "an expression": ({"$defs": {"e": SUM}, "$ref": "#/$defs/e"}, '{"num":0}'),
    "a number": ({"type": "number", "minimum": 1_000_000}, "1000000"),
    "a choice": ({"anyOf": [object_of(a=TEXT, b=TEXT), object_of(c=TEXT), {"minLength": 30}]}, '{"c":""}'),
    "many": (object_of(**dict.fromkeys(MANY, TEXT)), json.dumps(dict.fromkeys(MANY, ""))),
}  # fmt: skip
SOME: dict[str, Any] = {
    "a password": {"type": "string", "pattern": r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)(?=.*[^A-Za-z0-9]).{8,}$"},
    "an address": {
        "type": "string",
        "pattern": rf'^(({NO_SIGN}+(\.{NO_SIGN}+)*)|(".+"))@(({NO_SIGN}+\.)+{NO_SIGN}{{2,}})$',
    },
    "formats": object_of(
        **{name: {"type": "string", "format": name} for name in ("date-time", "uri", "ipv4", "ipv6", "uuid", "email")}
    ),
}


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary)


def finish(
    grammars: Grammars,
    vocabulary: Vocabulary,
    rules: str | Grammar,
    start: str,
    marks: tuple[str, ...] = (),
    *closings: str,
) -> str | None:
    """The whole text, if an end is found for what has begun."""
    matcher = grammars.matcher(Grammar(rules, marks, closings) if isinstance(rules, str) else rules)
    matcher.set_budget(10_000)
    tokens = vocabulary.tokenize(start, add_special=False).tolist()
    for token in tokens:
        assert matcher.accept(token) == token
    end_path = matcher._find(PATIENCE)
    if end_path is None:
        return None
    assert matcher._matcher.consume_tokens(end_path.tokens)
    assert matcher._matcher.is_accepting()
    return vocabulary.detokenize([*tokens, *end_path.tokens])


def finish_json(grammars: Grammars, vocabulary: Vocabulary, schema: Any, start: str) -> str | None:
    """The whole JSON, if an end is found for what has begun."""
    rules = json_rules(schema, "value")
    grammar = Grammar(f"start: value\n{rules.text}", examples=rules.examples)
    return finish(grammars, vocabulary, grammar, start)


@pytest.mark.parametrize("name", SHORTEST)
def test_the_shortest_answer(grammars: Grammars, vocabulary: Vocabulary, name: str) -> None:
    schema, text = SHORTEST[name]
    answer = finish_json(grammars, vocabulary, schema, "")
    assert answer is not None
    assert json.loads(answer) == json.loads(text)


@pytest.mark.parametrize("name", SOME)
def test_some_answer(grammars: Grammars, vocabulary: Vocabulary, name: str) -> None:
    answer = finish_json(grammars, vocabulary, SOME[name], "")
    assert answer is not None
    jsonschema.validate(json.loads(answer), SOME[name])


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ('{"a', '{"a":0}'),
        ('{"a": 1', '{"a": 1}'),
        ('{"a": -', '{"a": -0}'),
        ('{"a": [[[', '{"a": [[[]]]}'),
        ('{"a": [1,', '{"a": [1,0]}'),
        ('{"a": {"b": "x \\', '{"a": {"b": "x \\""}}'),
        ('{"a": "one } two ]', '{"a": "one } two ]"}'),
        ('{"a": tr', '{"a": true}'),
    ],
)
def test_what_is_open_is_closed(grammars: Grammars, vocabulary: Vocabulary, start: str, end: str) -> None:
    text = finish_json(grammars, vocabulary, {"type": "object"}, start)
    assert text is not None
    assert text.startswith(start)
    assert len(text) == len(end)
    json.loads(text)


@pytest.mark.parametrize("start", ["", '{"city": "Par', '{"city":"","population":-1', '{"city":"","population":1,"cl'])
def test_what_is_required_is_there(grammars: Grammars, vocabulary: Vocabulary, start: str) -> None:
    text = finish_json(grammars, vocabulary, PLACE, start)
    assert text is not None
    assert text.startswith(start)
    jsonschema.validate(json.loads(text), PLACE)
    assert "note" not in json.loads(text)


@pytest.mark.parametrize("schema", [PLACE, *(schema for schema, _ in SHORTEST.values())])
def test_from_anywhere(grammars: Grammars, vocabulary: Vocabulary, schema: Any) -> None:
    chance = random.Random(7)
    text = written_at_random(schema_matcher(schema), chance) or ""
    for size in sorted(chance.randrange(len(text) + 1) for _ in range(3)):
        start = text[:size]
        answer = finish_json(grammars, vocabulary, schema, start)
        if answer is not None or len(start) < 100:
            assert answer is not None, start
            jsonschema.validate(json.loads(answer), schema)


@pytest.mark.parametrize(
    ("pattern", "start", "end"),
    [
        ("^[0-9]+$", "12", ""),
        (r"^\d{1,3}$", "1", ""),
        ("^[A-Z]+$", "", "A"),
        ("^[A-Z]+$", "AB", ""),
        ("^a+b*c?$", "abb", ""),
        ("^[aelr]+$", "le", ""),
        ("@", "Canada", "@"),
        ("[0-9]", "x", "0"),
        (r"\d$", "1x", "0"),
        ("^[0-9]+-[0-9]+$", "1", "-0"),
        (r"^[A-Z]{3}-[0-9]{2}$", "AB", "A-00"),
    ],
)
def test_from_within_the_text_of_a_pattern(
    grammars: Grammars, vocabulary: Vocabulary, pattern: str, start: str, end: str
) -> None:
    rules = json_rules(object_of(v={"type": "string", "pattern": pattern}), "value")
    matcher = grammars.matcher(Grammar(f"start: value\n{rules.text}", examples=rules.examples))
    matcher.set_budget(10_000)
    for token in vocabulary.tokenize(f'{{"v":"{start}', add_special=False).tolist():
        assert matcher.accept(token) == token
    end_path = matcher._find(_BETWEEN_TOKENS)
    assert end_path is not None
    assert vocabulary.detokenize(end_path.tokens) == f'{end}"}}'


def test_a_mark_ends_text_and_never_a_string(grammars: Grammars, vocabulary: Vocabulary) -> None:
    rules = 'start: until_0 mark_1 %json {"type":"object"} mark_2'
    text = finish(grammars, vocabulary, rules, 'Well, "so', ("</think>", "<tool_call>", "</tool_call>"))
    assert text == 'Well, "so</think><tool_call>{}</tool_call>'


BARE = """start: "<p>" VALUE "<p>" VALUE
VALUE: (TEXT & ~(TEXT "</p>" TEXT)) "</p>\\n\""""


@pytest.mark.parametrize("start", ["", "<p>", "<p>so {it", "<p>\n</", '<p>a</p>\n<p>"quoted'])
def test_a_value_without_quotes_ends_with_its_tag(grammars: Grammars, vocabulary: Vocabulary, start: str) -> None:
    text = finish(grammars, vocabulary, BARE, start, (), "</p>\n")
    assert text is not None
    assert text.startswith(start)
    assert text.count("</p>\n") == 2


def test_thoughts_end_with_their_own_tag_however_many_others_there_are(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    rules = 'start: thoughts "<p>" VALUE\nthoughts[lazy]: /(.|\\n)*<\\/t>/\nVALUE: /[^<]*/ "</p>"'
    text = finish(grammars, vocabulary, rules, "", (), "</p>", "</t>")
    assert text is not None
    assert text.endswith("</t><p></p>")


def test_a_search_gives_up_when_its_time_is_over(grammars: Grammars) -> None:
    matcher = grammars.matcher(Grammar(f"start: value\n{json_rules(PLACE, 'value').text}"))
    matcher.set_budget(10_000)
    assert matcher._find((200_000, 0.0)) is None
    assert matcher._find(PATIENCE) is not None


def test_a_search_stops_where_no_room_is_left(grammars: Grammars) -> None:
    matcher = grammars.matcher(Grammar(f'start: "{"x" * 20_000}"'))
    matcher.set_budget(10)
    effort = Effort(200_000, 60.0)
    assert completed(matcher._search(effort)) is None
    assert 200_000 - effort.tries < 10 * 48 * 10  # searches; a token has at most 48 bytes


def test_a_search_pauses_often(grammars: Grammars) -> None:
    matcher = grammars.matcher(Grammar(f"start: value\n{json_rules(PLACE, 'value').text}"))
    matcher.set_budget(200)
    assert sum(1 for _ in matcher.find_first_end()) > len('{"city":"')
    assert matcher._end_path is not None


def test_where_there_is_no_end(grammars: Grammars) -> None:
    matcher = grammars.matcher(
        Grammar(f"start: value\n{json_rules({'type': 'string', 'minLength': 9_000}, 'value').text}")
    )
    assert matcher._find((5_000, 60.0)) is None


def test_a_text_is_written_in_few_tokens() -> None:
    end_finder = EndFinder([b"a", b"b", b"ab", b"abc", b"cd", b""])
    assert end_finder.tokenize(tuple(b"abcd"), ()) == [2, 4]
    assert end_finder.tokenize(tuple(b"abx"), ()) is None
    assert end_finder.tokenize((*b"ab", 257, *b"b"), (5,)) == [2, 5, 1]
