"""A grammar that holds a call wakes where each format's calls begin, and whatever it allows, the reader reads."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.chat.grammar.constraint import call_grammar, call_triggers
from engine.chat.output import Format, OutputParser, ParseContext, ToolSet
from engine.runner.grammar import Grammars
from engine.runner.grammar_check import BYTES, ByteVocabulary
from engine.runner.lazy_matcher import LazyMatcher
from modelfile.conversation import Tool
from tests.engine.chat.output.sampling import PARAMETERS, MarkedVocabulary
from tests.engine.chat.output.test_call_parts import STREAMED, read, same
from tests.engine.chat.output.test_forced import DISTINCT, FUNCTIONS, declared
from tests.engine.chat.output.test_format_spec import ARGUMENTS, FORCED, SEVERAL, written
from tests.engine.chat.reading import TOOLS, joined, parsed

LEADING = [name for name in DISTINCT if FORCED[name].spec.calls.leads]  # type: ignore[union-attr]
TAGGED = [name for name in DISTINCT if name not in LEADING]
NO_THOUGHTS = ParseContext(ToolSet(TOOLS), think=False)
THOUGHTS = ParseContext(ToolSet(TOOLS), think=True)


class Answer:
    """An answer that is written token by token, its calls held to a grammar; `spelled`: marks are no tokens."""

    def __init__(
        self,
        format: Format,
        context: ParseContext = NO_THOUGHTS,
        tools: Sequence[Tool] = TOOLS,
        *,
        once: bool = False,
        spelled: bool = True,
    ) -> None:
        triggers = call_triggers(tools, format, context, once=once)
        grammar = call_grammar(tools, format, once=once)
        assert triggers is not None
        assert grammar is not None
        self.beginnings = triggers.tags + triggers.starts
        self.vocabulary = vocabulary = ByteVocabulary() if spelled else MarkedVocabulary(grammar.marks)
        self.matcher = LazyMatcher(triggers, lambda token: vocabulary.render(token, special=True))
        self.matcher.set_grammar(Grammars(vocabulary).call_grammar(grammar))
        self.text = b""

    def write(self, text: str) -> list[bool]:
        """Write a text that must be allowed; whether the grammar was awake behind each of its tokens."""
        awake = []
        for token in self.vocabulary.tokenize(text, add_special=False):
            assert token in self.allowed(), (self.text, self.vocabulary.render(token, special=True))
            self.add(token)
            awake.append(self.matcher.awake)
        return awake

    def add(self, token: int) -> None:
        self.text += self.vocabulary.render(self.matcher.accept(token), special=True)

    def allowed(self) -> set[int]:
        row = np.zeros(self.vocabulary.size, np.float32)
        self.matcher.restrict(row)
        return set(np.flatnonzero(row == 0).tolist())


@pytest.mark.parametrize("spelled", [True, False])
@pytest.mark.parametrize("function", ARGUMENTS)
@pytest.mark.parametrize("name", DISTINCT)
def test_a_call_wakes_it_and_its_end_lets_it_sleep(name: str, function: str, spelled: bool) -> None:
    format = FORCED[name]
    answer = Answer(format, spelled=spelled)
    if name not in LEADING:
        assert not any(answer.write('Well, {"a": [1]} <b> [f](x) '))
    for _ in range(2 if name in TAGGED else 1):
        awake = answer.write(written(format, function))
        assert (any(awake), awake[-1]) == (True, False)
        assert not any(answer.write(" and so on\n"))


@pytest.mark.parametrize("name", DISTINCT)
def test_of_a_call_that_is_cut_no_held_text_is_content(name: str) -> None:
    format = FORCED[name]
    before = "" if format.spec.content or name in LEADING else "Well. "
    text = before + written(format, "get_weather")
    chunks = held_chunks(Answer(format), text)
    for end in range(1, len(chunks) + 1):
        parser = OutputParser(format, NO_THOUGHTS)
        deltas = [delta for chunk, held in chunks[:end] for delta in parser.feed(chunk, held=held)]
        content = joined([*deltas, *parser.feed("", final=True)]).content
        if chunks[end - 1][1]:
            assert content.strip() == before.strip()
        elif not format.spec.content:  # else a header that is cut could be of anything
            assert "".join(content.split()) == "".join(text[:end].split())


def held_chunks(answer: Answer, text: str) -> list[tuple[str, bool]]:
    """The text's characters, each with whether it belongs to a call that is held."""
    chunks = []
    for character in text:
        answer.write(character)
        chunks.append((character, answer.matcher.held))
    assert chunks[-1][1]
    return chunks


@pytest.mark.parametrize("name", sorted({*SEVERAL} & {*DISTINCT}))
def test_several_calls(name: str) -> None:
    answer = Answer(SEVERAL[name])
    awake = answer.write(written(SEVERAL[name], *ARGUMENTS))
    assert (any(awake), awake[-1]) == (True, False)


@pytest.mark.parametrize("name", LEADING)
def test_where_calls_look_like_text_only_the_beginning_of_an_answer_wakes_it(name: str) -> None:
    call = written(FORCED[name], "get_weather")
    assert not any(Answer(FORCED[name]).write(f"For example: {call}"))
    assert any(Answer(FORCED[name]).write(f"\n {call}"))


@pytest.mark.parametrize("name", LEADING)
def test_what_only_looks_like_a_call_is_free(name: str) -> None:
    for text in ('{"name": "Ada", "arguments": []}', '[{"name": "Ada"}]', "[get_weather](http://x)", "get_weather is"):
        assert not any(Answer(FORCED[name]).write(text))


@pytest.mark.parametrize("name", [name for name in DISTINCT if FORCED[name].spec.thinking[0]])
def test_reasoning_does_not_wake_it_but_a_call_behind_it_does(name: str) -> None:
    format = FORCED[name]
    opening, closing = format.spec.thinking
    call = written(format, "get_weather")
    answer = Answer(format, THOUGHTS)
    assert not any(answer.write(f"{opening}I could {call} or {call[:20]}{closing}\n"))
    assert any(answer.write(call))


@pytest.mark.parametrize("name", DISTINCT)
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(
    schemas=st.fixed_dictionaries(dict.fromkeys(FUNCTIONS, PARAMETERS)),
    seed=st.integers(0, 2**32),
    spelled=st.booleans(),
)
def test_every_call_is_valid(name: str, schemas: dict[str, Any], seed: int, spelled: bool) -> None:
    format, tools, chance = FORCED[name], declared(schemas), Random(seed)
    context = ParseContext(ToolSet(tools), think=False)
    answer = Answer(format, context, tools, spelled=spelled)
    answer.write(chance.choice(answer.beginnings))
    assert answer.matcher.awake
    while answer.matcher.awake:
        if len(answer.text) > 2_000:
            return
        allowed = sorted(answer.allowed())
        likely = [token for token in allowed if token > BYTES or token in b'"}])>/']
        assert BYTES not in allowed
        answer.add(chance.choice(likely if likely and chance.random() < 0.7 else allowed))
    _, _, calls = parsed(format, answer.text.decode(), context)
    assert calls, answer.text
    for function, arguments in calls:
        jsonschema.validate(arguments, schemas[function])
    if name in STREAMED:
        same(read(format, answer.text.decode(), context))


@pytest.mark.parametrize("name", DISTINCT)
def test_the_answer_ends_behind_an_only_call(name: str) -> None:
    answer = Answer(FORCED[name], once=True)
    assert not answer.matcher.finished
    answer.write(written(FORCED[name], "get_weather"))
    assert answer.matcher.finished
