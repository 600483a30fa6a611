"""The rules of a grammar for what a request's `format` asks of an answer's content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.chat.grammar.gbnf import BadGrammar, parse
from engine.chat.grammar.gbnf_rules import gbnf_rules
from engine.chat.grammar.json_grammar import json_rules
from engine.chat.grammar.json_terminals import any_of
from engine.chat.grammar.lark import check_lark
from engine.chat.regex.assertions import match_whole
from engine.chat.regex.nodes import Untranslatable, lengths, literals, terminal
from engine.chat.schema.reader import LARGEST, UnusableSchema
from engine.errors import InvalidRequest

CONTENT = "content"
_LARGEST_TRANSLATED = 64 << 10  # characters; clients send a few thousand, and Python code reads them one by one
_MOST_CLOSINGS, _LONGEST_CLOSING = 32, 100  # characters
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class ContentRules:
    """The rule `content` and the rules that it needs; the other fields as in `Grammar`."""

    text: str
    closings: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    user_grammar: str = ""
    is_json: bool = False


def content_rules(output_format: str) -> ContentRules:
    """The rules for a request's `format`, which is JSON text. Raises InvalidRequest."""
    try:
        value = _ANY_OBJECT if output_format == '"json"' else json.loads(output_format)
        if not isinstance(value, Mapping):
            quoted = json.dumps(output_format, ensure_ascii=False)
            raise InvalidRequest(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object', "format")
        kind = value.get("type")
        if isinstance(kind, str) and kind in _KINDS:
            key, rules = _KINDS[kind]
            return _written(rules(_checked(value, kind, key)))
        found = json_rules(value, CONTENT)
        return _written(ContentRules(found.text, examples=found.examples, is_json=True))
    except Untranslatable as error:
        raise InvalidRequest(f"invalid format: pattern: {error}", "format") from None
    except (UnusableSchema, BadGrammar) as error:
        raise InvalidRequest(f"invalid format: {error}", "format") from None
    except RecursionError:
        raise InvalidRequest("invalid format: it is nested too deeply", "format") from None


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which JSON can have but no answer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(rules: ContentRules) -> ContentRules:
    """The rules. Raises InvalidRequest if they have lone surrogates."""
    if not is_unicode(rules.text) or not is_unicode(rules.user_grammar):
        raise InvalidRequest("invalid format: it has half of a surrogate pair, which no text can have", "format")
    return rules


def _checked(value: Mapping[str, Any], kind: str, key: str) -> Any:
    """What a format has under the key that its type needs. Raises InvalidRequest."""
    if key not in value:
        raise InvalidRequest(f'invalid format: type "{kind}" needs "{key}"', "format")
    found = value[key]
    if kind == "choice":
        if not isinstance(found, list) or not found or not all(isinstance(choice, str) for choice in found):
            raise InvalidRequest(f'invalid format: "{key}" must be a list of texts with at least one', "format")
        size = sum(map(len, found))
    elif not isinstance(found, str):
        raise InvalidRequest(f'invalid format: "{key}" must be a text', "format")
    else:
        size = len(found)
    most = _LARGEST_TRANSLATED if kind in ("regex", "gbnf") else LARGEST
    if size > most:
        raise InvalidRequest(f'invalid format: "{key}" is too large: at most {most} characters are accepted', "format")
    return found


def _regex_rules(pattern: str) -> ContentRules:
    """Texts that a pattern matches as a whole. Raises Untranslatable."""
    tree = match_whole(pattern)
    if lengths(tree) is None:
        raise Untranslatable("no text matches it")
    return ContentRules(f"{CONTENT}: CONTENT\nCONTENT: {terminal(tree, quoted=False)}", _closings(literals(tree)))


def _choice_rules(choices: list[str]) -> ContentRules:
    return ContentRules(f"{CONTENT}: CONTENT\nCONTENT: {any_of(dict.fromkeys(choices))}")


def _gbnf_rules(grammar: str) -> ContentRules:
    rules = parse(grammar)
    texts = [text for body in rules.values() for text in literals(body)]
    return ContentRules(gbnf_rules(rules, CONTENT), _closings(texts))


def _lark_rules(grammar: str) -> ContentRules:
    texts = check_lark(grammar)
    return ContentRules(f"{CONTENT}: @user", _closings(texts), user_grammar=grammar)


def _closings(literals: Iterable[str]) -> tuple[str, ...]:
    """The texts that may be worth trying where an answer must end."""
    fitting = (text for text in literals if 0 < len(text) <= _LONGEST_CLOSING)
    return tuple(dict.fromkeys(fitting))[:_MOST_CLOSINGS]


_KINDS: Mapping[str, tuple[str, Callable[[Any], ContentRules]]] = {
    "regex": ("pattern", _regex_rules),
    "choice": ("choices", _choice_rules),
    "gbnf": ("grammar", _gbnf_rules),
    "lark": ("grammar", _lark_rules),
}
"""The types of formats that are no types of JSON Schema: the key that each needs, and what makes its rules."""
