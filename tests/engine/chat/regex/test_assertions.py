"""Patterns of ECMA 262 as grammars: what a browser's RegExp finds, the grammar allows, and nothing else."""

from __future__ import annotations

import json

import pytest
from llguidance import LLMatcher

from engine.chat.regex.assertions import search
from engine.chat.regex.nodes import NEVER, Untranslatable, terminal
from tests.engine.chat.grammars import allows, matcher_of

TABLE: list[tuple[str, list[str], list[str]]] = [
    # a pattern, texts in which it is found, texts in which it is not; all as node's RegExp has it
    (r"\bfoo\b", ["foo", "a foo b", "-foo-"], ["foobar", "_foo", "foo1", ""]),
    (r"\Bfoo", ["afoo", "_foo"], ["foo", " foo"]),
    (r"foo\B", ["foo1", "foobar"], ["foo", "foo "]),
    (r"^\b", ["a", "a-"], ["", "-a"]),
    (r"\B", ["", "aa", "--", " a "], ["a"]),
    (r"\cA", ["\x01", "a\x01"], ["A", "cA"]),
    (r"^[\cA]$", ["\x01"], ["A", "c"]),
    (r"[^]", ["a", "\n", "€", '"'], [""]),
    (r"^[]$", [], ["", "[]", "a"]),
    (r"^[a-\d]$", ["a", "-", "7"], ["b", "d"]),
    (r"^[\d-x]$", ["-", "x", "5"], ["d", "w"]),
    (r"^a\<b$", ["a<b"], ["a\\<b"]),
    (r"^\0$", ["\0"], ["0"]),
    (r"^\x41\u0042\u{43}$", ["ABC"], ["x41B"]),
    (r"^\x4$", ["x4"], ["\x04"]),
    (r"^\uD83D\uDE00$", ["😀"], ["\\uD83D"]),
    (r"^a{3}$", ["aaa"], ["aa", "aaaa"]),
    (r"^a{,3}$", ["a{,3}"], ["aa"]),
    (r"^{a}$", ["{a}"], ["a"]),
    (r"^a{$", ["a{"], ["a"]),
    (r"^}]$", ["}]"], ["}"]),
    (r"^[a[b]+$", ["a[b", "["], ["]", "c"]),
    (r"^[a&&b]+$", ["a&b", "&"], ["c", ""]),
    (r"^[--a]$", ["-", "A", "a"], ["b"]),
    (r"^[\]\\^]$", ["]", "\\", "^"], ["a"]),
    (r"^[^\"\\]$", ["a", "\n"], ['"', "\\"]),
    (r"^[\b]$", ["\b"], ["b"]),
    (r"^\"\\$", ['"\\'], ['"', "\\"]),
    (r"^.$", ["a", "é", "\t", "😀"], ["\n", "\r", "\u2028", ""]),
    (r"^(?s:.)$", ["a", "\n"], ["ab"]),
    (r"^\s$", [" ", "\u00a0", "\ufeff", "\n", "\u2028"], ["a", "\u200b"]),
    (r"^\S\W$", ["a ", "é-"], [" a", "aa"]),
    (r"^\d\w$", ["1a", "2_"], ["١a", "1é"]),
    (r"^\p{Lu}\P{L}$", ["A1", "É-"], ["a1", "AB"]),
    (r"^[\p{L}\d]+$", ["aé1"], ["a-", ""]),
    (r"^\p{Script=Greek}+$", ["αβ"], ["ab"]),
    (r"^[^\p{L}]$", ["1", '"', "\n"], ["a"]),
    (r"(^|,)a(,|$)", ["a", "a,b", "b,a", "x,a,y"], ["ba", "ab"]),
    (r"a$b", [], ["ab", "a"]),
    (r"a^b", [], ["ab"]),
    (r"^a|b$", ["ax", "xb"], ["xa", "bx"]),
    (r"a+?b??", ["a", "xaab"], ["b"]),
    (r"^(?=.*[A-Z])(?=.*\d).{3,}$", ["Ab1", "1aZ"], ["ab1", "A1", "ABC"]),
    (r"^(?!foo).*$", ["bar", "fo", ""], ["foo", "foobar"]),
    (r"^(?!.*\.\.)[a.]+$", ["a.a", "."], ["a..a"]),
    (r"(?<=a)b", ["ab", "xaby"], ["b", "cb"]),
    (r"(?<!a)b", ["b", "cb", "abb"], ["ab", "a"]),
    (r"x(?!y)", ["x", "xz", "xyx"], ["xy", ""]),
    (r"(?=ab)a", ["ab", "xab"], ["a", "ac"]),
    (r"^(?<year>\d{4})-(\d\d)$", ["2024-11"], ["2024"]),
    (r"^(?P<a>b)\Z", ["b"], ["bZ"]),
    (r"(?i)^straße$", ["STRAßE", "straße"], ["strasse"]),
    (r"^(?i:ab)c$", ["aBc", "ABc"], ["abC"]),
    (r"^\/[\/]$", ["//"], ["\\/"]),
    (r"^\08$", ["\x008"], ["08"]),
    (r"^\7$", ["\x07"], ["7"]),
    (r"", ["", "a"], []),
    (
        r'^(([^<>()[\]\.,;:\s@"]+(\.[^<>()[\]\.,;:\s@"]+)*)|(".+"))@(([^<>()[\]\.,;:\s@"]+\.)+[^<>()[\]\.,;:\s@"]{2,})$',
        ["me@example.org", '"a b"@x.org', "a.b@c.de"],
        ["me@example", "a b@x.org", "@x.org"],
    ),
]


def json_matcher(pattern: str) -> LLMatcher | None:
    node = search(pattern)
    if node == NEVER:
        return None
    return matcher_of(f'start: TEXT\nTEXT: "\\"" {terminal(node, quoted=True)} "\\""')


@pytest.mark.parametrize(("pattern", "good", "bad"), TABLE, ids=[row[0] for row in TABLE])
def test_a_text_of_json_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    matcher = json_matcher(pattern)
    for text in [*good, *bad]:
        allowed = matcher is not None and allows(matcher, json.dumps(text, ensure_ascii=False))
        assert allowed is (text in good), text


@pytest.mark.parametrize(("pattern", "good", "bad"), TABLE, ids=[row[0] for row in TABLE])
def test_a_bare_text_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    node = search(pattern)
    matcher = None if node == NEVER else matcher_of(f"start: TEXT\nTEXT: {terminal(node, quoted=False)}")
    for text in [*good, *bad]:
        assert (matcher is not None and allows(matcher, text)) is (text in good), text


def test_a_thousand_and_one() -> None:
    matcher = json_matcher("^a{1001}$")
    assert matcher is not None
    assert allows(matcher, f'"{"a" * 1001}"')
    assert not allows(matcher, f'"{"a" * 1000}"')


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1", r"(?<q>a)\k<q>", "(", ")", "a)", "*a", "a**", "a++", "[a", "[z-a]", "a{3,1}", "\\", r"\p{Nonsense}",
        "(?:(?!ab).)*", "(?x)a", "(?<>a)", r"\u{110000}", "(?=a)*", "^*", "a{99999}", "(" * 100 + ")" * 100,
        "(a{1000}){1000}", "(^a|b$)" * 20, "(?",
    ],
)  # fmt: skip
def test_what_cannot_be_translated(pattern: str) -> None:
    with pytest.raises(Untranslatable):
        json_matcher(pattern)
