"""Tokens, trimming, comments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.lexer import Kind, Token, tokens

PIECES = (
    r"""{{ }} {{- -}} /* */ ( ) | := = , . .x $ $x " ' ` \ if end else range define 1 -2.5 0x 1e é ² a len nil true"""
)
soup = st.lists(st.sampled_from([*PIECES.split(), " ", "\n"]), max_size=30).map("".join)


def kinds(source: str) -> list[str]:
    return [f"{token.kind.name}:{token.text}" for token in tokens(source)]


def test_an_action() -> None:
    assert kinds('a{{ .x | len -}} \n b{{$y:="q"}}') == [
        "TEXT:a",
        "LEFT:{{",
        "SPACE: ",
        "FIELD:.x",
        "SPACE: ",
        "PIPE:|",
        "SPACE: ",
        "IDENTIFIER:len",
        "RIGHT:}}",
        "TEXT:b",
        "LEFT:{{",
        "VARIABLE:$y",
        "DECLARE::=",
        'STRING:"q"',
        "RIGHT:}}",
        "END:EOF",
    ]


@pytest.mark.parametrize("source", ["a {{- /* c */ -}} b", "a{{/* c */}}b", "a\n{{- /* } */ -}}\nb"])
def test_comments_leave_nothing_behind(source: str) -> None:
    assert kinds(source) == ["TEXT:a", "TEXT:b", "END:EOF"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ .x", "unclosed action"),
        ("{{ (.x }}", "unclosed left paren"),
        ("{{ .x) }}", "unexpected right paren"),
        ("{{/* a", "unclosed comment"),
        ("{{/* a */ }}", "comment ends before closing delimiter"),
        ("{{ 3x }}", 'bad number syntax: "3x"'),
        ("{{ 1+2 }}", 'bad number syntax: "1+2"'),
        ("{{ .x+1 }}", "bad character U+002B '+'"),
        ("{{ : }}", "expected :="),
        ("{{ \x01 }}", "unrecognized character in action: U+0001"),
        ("{{ ² }}", "unrecognized character in action: U+00B2 '²'"),
    ],
)
def test_errors(source: str, why: str) -> None:
    *_, last = tokens(source)
    assert (last.kind, last.text) == (Kind.ERROR, why)


@given(soup)
def test_tokens_are_pieces_of_the_source_in_order(source: str) -> None:
    found = list(tokens(source))
    assert found[-1].kind in (Kind.END, Kind.ERROR)
    assert [token.at for token in found] == sorted(token.at for token in found)
    for token in found[:-1]:
        assert source.startswith(token.text, token.at)
        assert token.text


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (Token(Kind.KEYWORD, 0, "if"), "<if>"),
        (Token(Kind.FIELD, 0, ".abcdefghij"), '".abcdefghi"...'),
        (Token(Kind.OTHER, 0, "@"), '"@"'),
        (Token(Kind.ERROR, 0, "oh"), "oh"),
    ],
)
def test_how_errors_show_tokens(token: Token, shown: str) -> None:
    assert str(token) == shown
