"""Functions that make text: printing and escaping."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.printf import print_format, print_line, print_values
from modelfile.gotemplate.signature import Function, Parameter
from modelfile.gotemplate.strings import to_bytes
from modelfile.gotemplate.values import PointerType, Value, string

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"})
_JS = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in (*range(0x20), *b"<>&=")} | {"\\": "\\\\", "'": "\\'", '"': '\\"'}
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def print_(budget: Budget, *values: Value) -> Value:
    """The values in a row."""
    buffer = Buffer(budget)
    print_values(values, buffer)
    return string(buffer.text())


def println(budget: Budget, *values: Value) -> Value:
    """The values with spaces between them, and a line break."""
    buffer = Buffer(budget)
    print_line(values, buffer)
    return string(buffer.text())


def printf(budget: Budget, layout: Value, *values: Value) -> Value:
    """The values as the layout says."""
    buffer = Buffer(budget)
    print_format(layout.data, values, buffer)
    return string(buffer.text())


def html(budget: Budget, *values: Value) -> Value:
    """Text that HTML does not take for markup."""
    return string(_printed(budget, values).translate(_HTML))


def js(budget: Budget, *values: Value) -> Value:
    """Text for the inside of a JavaScript string."""
    text = _printed(budget, values).translate(_JS)
    return string(_NOT_ASCII.sub(lambda match: _js_unicode(match[0]), text))


def _js_unicode(text: str) -> str:
    if text.isprintable():
        return text
    keep = (char.isprintable() or "\ud800" <= char <= "\udfff" for char in text)
    return "".join(char if kept else f"\\u{ord(char):04X}" for char, kept in zip(text, keep, strict=True))


def urlquery(budget: Budget, *values: Value) -> Value:
    """Text for the query of a URL."""
    return string(quote_plus(to_bytes(_printed(budget, values)), safe=""))


def _printed(budget: Budget, values: tuple[Value, ...]) -> str:
    """The values as an action would print them, ready to be looked at character by character."""
    buffer = Buffer(budget)
    print_values([_shown(value) for value in values], buffer)
    text = buffer.text()
    budget.spend_on_each(len(text))
    return text


def _shown(value: Value) -> Value:
    value = value.held()
    if not value.valid:
        return string("<no value>")
    return value.indirect() if isinstance(value.type, PointerType) else value


_ANY = Parameter.ANY
TEXTS = {
    "print": Function(print_, rest=_ANY),
    "println": Function(println, rest=_ANY),
    "printf": Function(printf, (Parameter.STRING,), _ANY),
    "html": Function(html, rest=_ANY),
    "js": Function(js, rest=_ANY),
    "urlquery": Function(urlquery, rest=_ANY),
}
