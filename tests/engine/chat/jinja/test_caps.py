"""Capabilities of templates, each shown by a template that has or lacks it."""

from __future__ import annotations

import pytest

from engine.chat.jinja.adapt import MessageDialect
from engine.chat.jinja.caps import TemplateCaps
from engine.chat.jinja.template import CHATML, JinjaTemplate

CALLS = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
EACH = "{% for m in messages %}%s{% endfor %}"
TEXT = EACH.replace("%s", "{{ m.role }}{{ m.content }}")
WITH_CALLS = EACH.replace("%s", "{{ m.content }}" + CALLS)


def caps(source: str) -> TemplateCaps:
    return TemplateCaps(JinjaTemplate(source))


@pytest.mark.parametrize("source", [CHATML, TEXT, WITH_CALLS, "{{ raise_exception('always') }}", "nothing"])
def test_most_need_nothing(source: str) -> None:
    template_caps = caps(source)
    assert (
        template_caps.requires_functions,
        template_caps.text_dialect,
        template_caps.call_dialect,
        template_caps.drops_parallel_calls,
    ) == (
        False,
        MessageDialect(),
        MessageDialect(),
        False,
    )


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (EACH.replace("%s", "{% for p in m.content %}{{ p.text }}{% endfor %}"), MessageDialect(typed_content=True)),
        (TEXT + "{% if false %}{{ m.id | length == 9 }}{% endif %}", MessageDialect(short_ids=True)),
        (TEXT + "{% if false %}{{ m.id | length < 9 }}{% endif %}", MessageDialect(short_ids=True)),
    ],
)
def test_text(source: str, dialect: MessageDialect) -> None:
    assert caps(source).text_dialect == dialect


IN_STRINGS = "{% if m.content is string %}{{ m.content }}{% else %}" + CALLS + "{% endif %}"
REFUSING_TWO = "{% if m.tool_calls | length > 1 %}{{ raise_exception('one!') }}{% endif %}" + CALLS


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (EACH.replace("%s", IN_STRINGS), MessageDialect(null_content=True)),
        (WITH_CALLS.replace("c.function.name", "c.id"), MessageDialect(function_ids=True)),
        (WITH_CALLS.replace(" | tojson", ""), MessageDialect(json_arguments=True)),
        (
            WITH_CALLS.replace("c.function.arguments | tojson", "'' + c.function.arguments"),
            MessageDialect(json_arguments=True),
        ),
    ],
)
def test_calls(source: str, dialect: MessageDialect) -> None:
    assert caps(source).call_dialect == dialect


@pytest.mark.parametrize(
    "source", [WITH_CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), EACH.replace("%s", REFUSING_TWO)]
)
def test_drops_parallel_calls(source: str) -> None:
    assert caps(source).drops_parallel_calls


def test_functions() -> None:
    assert caps("{{ '' + functions }}" + TEXT).requires_functions
    assert not caps("{{ functions }}" + TEXT).requires_functions


@pytest.mark.parametrize(
    ("condition", "some", "more"),
    [
        ("true", True, True),
        ("m.role != 'system' or loop.first", True, False),
        ("m.role != 'system'", False, False),
    ],
)
def test_system_messages(condition: str, some: bool, more: bool) -> None:
    hidden = f"{{% if {condition} %}}{{{{ m.content }}}}{{% endif %}}"
    refused = hidden.replace("{% endif", "{% else %}{{ raise_exception('no!') }}{% endif")
    for source in (hidden, refused):
        template_caps = caps(EACH.replace("%s", source))
        assert (template_caps.supports_system_role, template_caps.supports_many_system_messages) == (some, more)
