"""Parses ECMA 262 regular expressions into trees of `nodes`, as leniently as browsers do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.chat.regex.char_class import ANY_CHAR, DIGIT, LINE_ENDS, SPACE, WORD, CharClass, characters_of
from engine.chat.regex.nodes import (
    EMPTY,
    END,
    LARGEST,
    NEVER,
    START,
    Boundary,
    Lookaround,
    Node,
    Repeat,
    Untranslatable,
    cat,
    either,
    size,
)

MOST_REPEATS = 10_000  # in one quantifier
DEEPEST = 60  # nested groups


def parse(pattern: str) -> Node:
    """The tree of a pattern. Raises Untranslatable."""
    return _PatternParser(pattern).parse()


_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTROLS = {"f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CLASSES = {"d": DIGIT, "w": WORD, "s": SPACE}


@dataclass
class _PatternParser:
    """A recursive descent parser over one pattern; `at` is the index of the next character."""

    text: str
    at: int = 0
    ignore_case: bool = False
    dot_all: bool = False
    depth: int = 0
    groups: int = field(default=0)

    def parse(self) -> Node:
        """The whole pattern."""
        self.groups = sum(1 for n, char in enumerate(self.text) if char == "(" and self.text[n + 1 : n + 2] != "?")
        node = self._choice()
        if self.at < len(self.text):
            raise Untranslatable("it has a parenthesis too many")
        if size(node) > LARGEST:
            raise Untranslatable("it is too large")
        return node

    def _choice(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Untranslatable("it is nested too deeply")
        alternatives = [self._sequence()]
        while self._skip("|"):
            alternatives.append(self._sequence())
        self.depth -= 1
        return either(alternatives)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self._quantified(self._atom()))
        return cat(parts)

    def _quantified(self, atom: Node) -> Node:
        """An atom with the quantifier behind it, if there is one; lazy ones count as greedy."""
        quantifier = self._quantifier()
        if quantifier is None:
            return atom
        if isinstance(atom, Boundary):
            raise Untranslatable("it repeats an assertion")
        least, most = quantifier
        if most is not None and least > most:
            raise Untranslatable("it repeats between more and fewer times")
        if max(least, most or 0) > MOST_REPEATS:
            raise Untranslatable("it repeats too often")
        if not self._skip("?") and self.text[self.at : self.at + 1] in ("+", "*"):
            raise Untranslatable("it repeats a repetition")
        return EMPTY if most == 0 else atom if (least, most) == (1, 1) else Repeat(atom, least, most)

    def _quantifier(self) -> tuple[int, int | None] | None:
        """The least and the most of a quantifier, None for no upper limit; None if there is no quantifier."""
        char = self.text[self.at : self.at + 1]
        if char in _QUANTIFIERS and char:
            self.at += 1
            return _QUANTIFIERS[char]
        if char != "{":
            return None
        body, closed, _ = self.text[self.at + 1 :].partition("}")
        least, comma, most = body.partition(",")
        if not closed or not _is_number(least) or (most and not _is_number(most)):
            return None  # a literal bracket
        self.at += len(body) + 2
        return int(least), int(most) if most else None if comma else int(least)

    def _atom(self) -> Node:
        char = self._take()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                return ANY_CHAR if self.dot_all else LINE_ENDS.complement()
            case "^" | "$":
                return Boundary(char)
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise Untranslatable("it repeats nothing")
        return self._folded(CharClass.of(ord(char)))

    def _group(self) -> Node:
        before = self.ignore_case, self.dot_all
        wrap = None
        if self._skip("?"):
            wrap = self._opened()
            if wrap == "flags":  # they hold for the rest of the enclosing group
                return EMPTY
        node = self._choice()
        if not self._skip(")"):
            raise Untranslatable("it has a parenthesis that is not closed")
        self.ignore_case, self.dot_all = before
        if wrap is None:
            return node
        return Lookaround(node, ahead="<" not in wrap, negative="!" in wrap)

    def _opened(self) -> str | None:
        """The kind of group behind `(?`: an assertion's sign, "flags" for flags alone, None for any other group."""
        for sign in ("=", "!", "<=", "<!"):
            if self._skip(sign):
                return sign
        if self._skip("<") or self._skip("P<"):
            name, closed, _ = self.text[self.at :].partition(">")
            if not closed or not name:
                raise Untranslatable("it names a group badly")
            self.at += len(name) + 1
            return None
        flags = ""
        while (char := self._take()) not in ":)":
            flags += char
        on, _, off = flags.partition("-")
        if set(on + off) - set("is"):
            raise Untranslatable(f"it has the flags {flags}")
        self.ignore_case = ("i" in on or self.ignore_case) and "i" not in off
        self.dot_all = ("s" in on or self.dot_all) and "s" not in off
        return "flags" if char == ")" else None

    def _escape(self) -> Node:
        """What an escape outside of a class means."""
        char = self._take()
        if char in "bB":
            return Boundary(char)
        if char in "AZz":  # anchors of Python and Rust; in ECMA they would be letters
            return START if char == "A" else END
        if char == "k" and self.text[self.at : self.at + 1] == "<":
            raise Untranslatable("it refers back")
        if char in "123456789":
            digits = char + "".join(self._digits())
            if int(digits) <= self.groups:
                raise Untranslatable("it refers back")
            self.at -= len(digits) - 1
            if char in "89":
                return CharClass.of(ord(char))
        return self._folded(self._escaped(char))

    def _digits(self) -> Iterator[str]:
        while self.text[self.at : self.at + 1] in tuple("0123456789"):
            yield self._take()

    def _escaped(self, char: str) -> CharClass:
        """The characters of an escape that means the same inside and outside of a class."""
        if char.lower() in _CLASSES:
            char_class = _CLASSES[char.lower()]
            return char_class.complement() if char.isupper() else char_class
        if char in "01234567":
            return CharClass.of(self._octal(char))
        if char in _CONTROLS:
            return CharClass.of(_CONTROLS[char])
        if char in "pP" and self._skip("{"):
            name, closed, _ = self.text[self.at :].partition("}")
            self.at += len(name) + 1
            members = characters_of(name) if closed else None
            if members is None:
                raise Untranslatable(f"it has the property {name[:40]}")
            return members.complement() if char == "P" else members
        if char == "c":
            letter = self.text[self.at : self.at + 1]
            if letter.isascii() and letter.isalpha():
                self.at += 1
                return CharClass.of(ord(letter) % 32)
            self.at -= 1
            return CharClass.of(ord("\\"))
        return CharClass.of(self._code(char))

    def _octal(self, char: str) -> int:
        digits = char
        while len(digits) < 3 and self.text[self.at : self.at + 1] in tuple("01234567") and int(digits, 8) < 32:
            digits += self._take()
        return int(digits, 8)

    def _code(self, char: str) -> int:
        """The character of `\\x41`, `\\u0041`, `\\u{41}` or of any other escaped letter."""
        if char == "u" and self.text[self.at : self.at + 1] == "{":
            digits, closed, _ = self.text[self.at + 1 :].partition("}")
            if not closed or not _is_hex(digits) or int(digits, 16) > 0x10FFFF:
                raise Untranslatable("it has no character behind \\u")
            self.at += len(digits) + 2
            return int(digits, 16)
        size = {"x": 2, "u": 4}.get(char, 0)
        digits = self.text[self.at : self.at + size]
        if not size or len(digits) < size or not _is_hex(digits):
            return ord(char)
        self.at += size
        code = int(digits, 16)
        low = self.text[self.at : self.at + 6]
        if (
            0xD800 <= code < 0xDC00
            and low.startswith("\\u")
            and _is_hex(low[2:])
            and 0xDC00 <= int(low[2:], 16) < 0xE000
        ):
            self.at += 6
            code = 0x10000 + ((code - 0xD800) << 10) + int(low[2:], 16) - 0xDC00
        return code

    def _class(self) -> Node:
        """A class, behind its opening bracket."""
        negative = self._skip("^")
        members = CharClass()
        while not self._skip("]"):
            one = self._member()
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                other = self._member()
                first, last = one.single(), other.single()
                if first is None or last is None:
                    one = one | other | CharClass.of(ord("-"))
                elif first > last:
                    raise Untranslatable("it has a range in reverse")
                else:
                    one = CharClass(((first, last),))
            members |= one
        members = members.folded() if self.ignore_case else members
        members = members.complement() if negative else members
        return members if members.properties or members.ranges else NEVER

    def _member(self) -> CharClass:
        char = self._take()
        if char != "\\":
            return CharClass.of(ord(char))
        char = self._take()
        return CharClass.of(8) if char == "b" else self._escaped(char)

    def _folded(self, char_class: CharClass) -> CharClass:
        return char_class.folded() if self.ignore_case else char_class

    def _take(self) -> str:
        if self.at >= len(self.text):
            raise Untranslatable("it ends too soon")
        self.at += 1
        return self.text[self.at - 1]

    def _skip(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_hex(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdefABCDEF")
