"""MiniMax M3's elements."""

from __future__ import annotations

from engine.chat.output import ParseContext, ToolSet
from engine.chat.output.minimax import SPACE, read_minimax3
from tests.engine.chat.reading import parsed, tool

CONTEXT = ParseContext(ToolSet([tool("f", n="integer", s="string", o="object")]))


def block(text: str) -> str:
    """A block of calls; `~` stands for what MiniMax writes before each tag."""
    return f"~<tool_call>\n{text}\n~</tool_call>".replace("~", SPACE)


def test_nested_values() -> None:
    text = block(
        '~<invoke name="f">~<n>3~</n>~<s><b>3</b>~</s>'
        "~<o>~<item>1~</item>~<item>~<k>x~</k>~<l>null~</l>~</item>~</o>~</invoke>"
    )
    arguments = {"n": 3, "s": "<b>3</b>", "o": [1, {"k": "x", "l": None}]}
    assert parsed(read_minimax3, f"a {text} b", CONTEXT) == ("a b", "", [("f", arguments)])


def test_several_calls_and_none() -> None:
    text = block('~<invoke name="f">~</invoke>\n~<invoke name="g">~<x>1~</x>~</invoke>')
    assert parsed(read_minimax3, text, CONTEXT) == ("", "", [("f", {}), ("g", {"x": "1"})])
    for text in (block("oops"), block('~<invoke name="f">~<n>3')[:60]):
        assert parsed(read_minimax3, text, CONTEXT) == (text, "", [])


def test_tags_that_do_not_match() -> None:
    text = block('~<invoke name="f">~<n>3~</x>~<s>a~</invoke>~</n>')
    assert parsed(read_minimax3, text, CONTEXT) == ("", "", [("f", {"n": {"s": "a"}})])


def test_depth() -> None:
    text = block('~<invoke name="f">' + "~<o>" * 5000 + "~</invoke>")
    assert len(parsed(read_minimax3, text, CONTEXT)[2]) == 1
