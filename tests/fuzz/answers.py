"""Answers of models in every format, however odd, and cut into any pieces."""

from __future__ import annotations

from random import Random

from engine.chat.output import ParseContext, ToolSet
from tests.engine.chat.output.test_chunks import FORMATS, LAST, PIECES, PROMPTS, outcome
from tests.engine.chat.output.test_detect import EXCERPTS
from tests.engine.chat.reading import TOOLS, cut
from tests.fuzz.trials import Trial, broken

_ANSWERS = dict(EXCERPTS)
_NAMES = sorted(FORMATS)
_ODD = ("\x00", "\ud800", "é", "你", "\u2028", "0" * 40, "[" * 200, "{" * 200, '{"a":' * 120, "1e999", "\\u", "'")


def answers(random: Random) -> Trial:
    """Reads one in a piece and in several: both must say the same, and a fault is a MalformedCall."""
    name = random.choice(_NAMES)
    text = _answer(name, random)
    context = ParseContext(
        random.choice((ToolSet(TOOLS), ToolSet())),
        random.random() < 0.5,
        random.choice(LAST),
        random.choice(PROMPTS),
    )
    places = [random.randint(0, len(text)) for _ in range(random.randint(0, 8))]
    return Trial((name, context, text, places), lambda: _check(name, context, text, places))


def _answer(name: str, random: Random) -> str:
    """The format's own marks, a call that is right, and pieces of all formats, in any order."""
    answer = _ANSWERS.get(name, "<think>a</think>b")
    own = (*FORMATS[name].preserved, answer, *cut(answer, [random.randint(0, 200) for _ in range(3)]))
    pieces = [random.choice(own if random.random() < 0.6 else PIECES) for _ in range(random.randint(0, 9))]
    return broken(["".join(pieces), answer], [*own, *PIECES, *_ODD], random)


def _check(name: str, context: ParseContext, text: str, places: list[int]) -> None:
    whole = outcome(FORMATS[name], context, [text])
    assert outcome(FORMATS[name], context, cut(text, places)) == whole
    assert outcome(FORMATS[name], context, [*text, ""]) == whole
