"""Go string literals, written and read back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.strings import backquoted, codepoint, from_bytes, unquote, unquote_character
from modelfile.text import quote


@given(st.text() | st.binary().map(from_bytes), st.booleans())
def test_what_is_quoted_can_be_read(text: str, ascii_only: bool) -> None:
    literal = quote(text, ascii_only=ascii_only)
    assert unquote(literal) == text
    assert literal.isascii() or not ascii_only
    assert literal[1:-1].isprintable()


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("foo:", '"foo:"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("line\nbreak\t\a", r'"line\nbreak\t\a"'),
        ("\x00\x7f", r'"\x00\x7f"'),
        ("日本 é", '"日本 é"'),
        ("\u200b", r'"\u200b"'),
    ],
)
def test_quote_as_source(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("byte", "shown"),
    [(ord("h"), "'h'"), (ord("'"), r"'\''"), (ord('"'), "'\"'"), (10, r"'\n'"), (0, r"'\x00'"), (0xEF, "'ï'")],
)
def test_quote_byte(byte: int, shown: str) -> None:
    assert quote(chr(byte), "'") == shown


@given(st.text())
def test_raw_strings_can_be_read(text: str) -> None:
    if (literal := backquoted(text)) is not None:
        assert unquote(literal) == text


@pytest.mark.parametrize(
    ("text", "literal"),
    [('a"b\\', r'"a\"b\\"'), ("\a\x01\x7f", r'"\a\x01\x7f"'), ("é\u200b\U000e0001", r'"é\u200b\U000e0001"')],
)
def test_quote(text: str, literal: str) -> None:
    assert quote(text) == literal


@pytest.mark.parametrize("literal", [r'"\z"', r'"\400"', r'"\ud800"', r'"\U00110000"', r'"\'"', r'"\x4"', r'"\1"'])
def test_broken_strings(literal: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid syntax$"):
        unquote(literal)


@pytest.mark.parametrize(("literal", "code"), [("'a'", 97), (r"'\''", 39), (r"'\xff'", 255), ("'é'", 0xE9)])
def test_characters(literal: str, code: int) -> None:
    assert unquote_character(literal) == code


@pytest.mark.parametrize(
    ("literal", "why"), [("''", "invalid syntax"), ("'ab'", "malformed character constant: 'ab'"), (r"'\"'", "invalid")]
)
def test_broken_characters(literal: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        unquote_character(literal)


@pytest.mark.parametrize(("char", "shown"), [("x", "U+0078 'x'"), ("\n", "U+000A"), ("😀", "U+1F600 '😀'")])
def test_codepoint(char: str, shown: str) -> None:
    assert codepoint(char) == shown
