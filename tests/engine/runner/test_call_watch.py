"""Where calls begin in an answer's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Triggers
from engine.runner.call_watch import CallWatch
from tests.engine.chat.reading import cut

THINK = ("<think>", "</think>")
TAGGED = Triggers(("<call>", " to=f<|m|>"), thinking=THINK)
LEADING = Triggers(starts=('{"name": "f"', "[f("), thinking=THINK)
PIECES = (
    "<think>",
    "</think>",
    "<call>",
    "<c",
    "all>",
    " to=f<|m|>",
    " ",
    "\n",
    '{"name": "f"',
    '{"',
    "[f(",
    "text",
    "é",
)


def places(triggers: Triggers, chunks: list[str]) -> list[tuple[int, int]]:
    """Start and end of each trigger in a text, in bytes."""
    watch, fed, found = CallWatch(triggers), 0, []
    for chunk in chunks:
        fed += len(chunk.encode())
        if trigger := watch.feed(chunk.encode()):
            found.append((fed - trigger.length, fed - trigger.behind))
    return found


@pytest.mark.parametrize(
    ("triggers", "text", "found"),
    [
        (TAGGED, "<call>", ["<call>"]),
        (TAGGED, "Well, <call> and <call>", ["<call>", "<call>"]),
        (TAGGED, " to=f<|m|>", [" to=f<|m|>"]),
        (TAGGED, "<think>a <call> b</think><call>", ["<call>"]),
        (TAGGED, "Well, <think>a <call> b</think><call>", ["<call>"]),
        (TAGGED, "</think>\n<call>", ["<call>"]),
        (TAGGED, "<<call>", ["<call>"]),
        (TAGGED, "<think><call>", []),
        (Triggers(("<call>",), thinking=THINK, begun=True), "a <call> b</think><call>", ["<call>"]),
        (Triggers(("<call>",)), "<think><call>", ["<call>"]),
        (LEADING, '{"name": "f"', ['{"name": "f"']),
        (LEADING, ' \n[f("x', ["[f("]),
        (LEADING, "<think>{</think>\n\n[f(", ["[f("]),
        (LEADING, "</think>[f(", ["[f("]),
        (LEADING, "Well, [f(", []),
        (LEADING, '{"name": "g"} [f(', []),
        (LEADING, "Well, <think></think>[f(", []),
    ],
)
def test_what_is_found(triggers: Triggers, text: str, found: list[str]) -> None:
    data = text.encode()
    assert [data[start:end].decode() for start, end in places(triggers, list(text))] == found


@given(
    st.sampled_from([TAGGED, LEADING]),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.integers(0, 100), max_size=6),
)
def test_cuts_change_nothing(triggers: Triggers, text: str, at: list[int]) -> None:
    first = places(triggers, list(text))[:1]
    assert places(triggers, cut(text, at))[:1] == first
    assert places(triggers, [text])[:1] == first


def test_nothing_is_kept_that_no_trigger_needs() -> None:
    watch = CallWatch(TAGGED)
    for _ in range(1000):
        watch.feed(b"some text <")
        assert watch.kept < 10
    assert not watch.over


def test_it_is_over_where_only_the_beginning_counts() -> None:
    watch = CallWatch(LEADING)
    assert not watch.over
    watch.feed(b"Well")
    assert watch.over


def test_behind_a_call_only_tags_count() -> None:
    for triggers, over in ((TAGGED, False), (LEADING, True)):
        watch = CallWatch(triggers)
        watch.restart()
        assert watch.over is over
        assert watch.feed(b"[f(") is None
    assert watch.feed(b"<call>") is None
