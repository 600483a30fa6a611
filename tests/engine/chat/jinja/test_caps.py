"""What templates need, each shown by a template that needs it."""

from __future__ import annotations

import pytest

from engine.chat.jinja.adapt import MessageDialect
from engine.chat.jinja.caps import TemplateCaps
from engine.chat.jinja.template import CHATML, ChatTemplate

CALLS = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
EACH = "{% for m in messages %}%s{% endfor %}"
TEXT = EACH.replace("%s", "{{ m.role }}{{ m.content }}")
WITH_CALLS = EACH.replace("%s", "{{ m.content }}" + CALLS)


def caps(source: str) -> TemplateCaps:
    return TemplateCaps(ChatTemplate(source))


@pytest.mark.parametrize("source", [CHATML, TEXT, WITH_CALLS, "{{ raise_exception('always') }}", "nothing"])
def test_most_need_nothing(source: str) -> None:
    found = caps(source)
    assert (found.functions, found.text, found.calls, found.one_call_each) == (
        False,
        MessageDialect(),
        MessageDialect(),
        False,
    )


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (EACH.replace("%s", "{% for p in m.content %}{{ p.text }}{% endfor %}"), MessageDialect(parts=True)),
        (TEXT + "{% if false %}{{ m.id | length == 9 }}{% endif %}", MessageDialect(short_ids=True)),
        (TEXT + "{% if false %}{{ m.id | length < 9 }}{% endif %}", MessageDialect(short_ids=True)),
    ],
)
def test_text(source: str, dialect: MessageDialect) -> None:
    assert caps(source).text == dialect


IN_STRINGS = "{% if m.content is string %}{{ m.content }}{% else %}" + CALLS + "{% endif %}"
REFUSING_TWO = "{% if m.tool_calls | length > 1 %}{{ raise_exception('one!') }}{% endif %}" + CALLS


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (EACH.replace("%s", IN_STRINGS), MessageDialect(null_content=True)),
        (WITH_CALLS.replace("c.function.name", "c.id"), MessageDialect(named_ids=True)),
        (WITH_CALLS.replace(" | tojson", ""), MessageDialect(text_arguments=True)),
        (
            WITH_CALLS.replace("c.function.arguments | tojson", "'' + c.function.arguments"),
            MessageDialect(text_arguments=True),
        ),
    ],
)
def test_calls(source: str, dialect: MessageDialect) -> None:
    assert caps(source).calls == dialect


@pytest.mark.parametrize(
    "source", [WITH_CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), EACH.replace("%s", REFUSING_TWO)]
)
def test_one_call_each(source: str) -> None:
    assert caps(source).one_call_each


def test_functions() -> None:
    assert caps("{{ '' + functions }}" + TEXT).functions
    assert not caps("{{ functions }}" + TEXT).functions


@pytest.mark.parametrize(
    ("condition", "some", "more"),
    [
        ("true", True, True),
        ("m.role != 'system' or loop.first", True, False),
        ("m.role != 'system'", False, False),
    ],
)
def test_systems(condition: str, some: bool, more: bool) -> None:
    hidden = f"{{% if {condition} %}}{{{{ m.content }}}}{{% endif %}}"
    refused = hidden.replace("{% endif", "{% else %}{{ raise_exception('no!') }}{% endif")
    for source in (hidden, refused):
        found = caps(EACH.replace("%s", source))
        assert (found.systems, found.more_systems) == (some, more)
