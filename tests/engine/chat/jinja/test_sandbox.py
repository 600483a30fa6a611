"""Hostile templates in the sandbox: they cost an error and nothing else."""

import json

import pytest

from engine.chat.jinja.sandbox import RenderError
from engine.chat.jinja.template import JinjaTemplate


def render(source: str, **variables: object) -> str:
    return JinjaTemplate(source).render([{"role": "user", "content": "Hi"}], **variables)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n + 1) }}{% endfor %}{% endmacro %}{{ f(0) }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% set l = [] %}{% for i in range(10) %}{{ l.append('x' * 1000000) or '' }}{% endfor %}{{ l | join('') }}",
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**10**10 }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a' | indent(10**9, true) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
        "{{ range(10000000) | list }}",
        "{{ messages | tojson(indent=10**9) }}",
        "{{ lipsum(1000000) }}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    ],
)
def test_what_explodes(source: str) -> None:
    with pytest.raises(RenderError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.__class__.x }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ self.__init__.x }}",
        "{{ messages[0]['__class__'].x }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{{ messages.clear() }}",
    ],
)
def test_what_reaches_out(source: str) -> None:
    with pytest.raises(RenderError):
        render(source)


@pytest.mark.parametrize(
    "source", ["{{ x.y.z }}", "{{ 1 / 0 }}", "{% for", "{{ 'a' + 1 }}", "{{ x | tojson }}", "{{ '%' | format }}"]
)
def test_what_is_wrong(source: str) -> None:
    with pytest.raises(RenderError):
        render(source)


def test_a_template_that_gives_up_is_quoted() -> None:
    with pytest.raises(RenderError, match=r"^roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% set l = [] %}{{ l.append(1) or '' }}{{ l }}", "[1]"),
        ("{% set l = [1, 2] %}{{ l.pop(0) }}{{ l }}", "1[2]"),
        ("{% for i in range(5) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "0134"),
        ("{{ '[' ~ 1 ~ none ~ ']' }}", "[1None]"),
        ("{{ '%s-%d' | format('a', 2) }}{{ '%s' % 3 }}{{ '{:>3}'.format(4) }}", "a-23  4"),
        ("{{ ['a', 'b'] | join(', ') }}{{ 'x-y' | replace('-', '+') }}", "a, bx+y"),
        ("{{ messages | map(attribute='role') | join }}", "user"),
        ("{{ 'a' | indent(2, true) }}", "  a"),
        ("{{ bos_token }}{{ tools is defined }}{{ add_generation_prompt }}", "FalseTrue"),
        ("{{ '{\"a\": 1}' | from_json }}", "{'a': 1}"),
        ("{{ messages | map(attribute='role') | tojson }}", '["user"]'),
    ],
)
def test_what_templates_need(source: str, text: str) -> None:
    assert render(source) == text


def test_json_is_spaced_ordered_and_not_escaped() -> None:
    value = {"b": "<é>", "a": [1, 2.5, None, True]}
    assert render("{{ v | tojson }}", v=value) == '{"b": "<é>", "a": [1, 2.5, null, true]}'
    assert render("{{ v | tojson(indent=2) }}", v=value) == json.dumps(value, ensure_ascii=False, indent=2)


def test_trimming_of_blocks() -> None:
    assert render("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"
