"""Hostile templates: each ends in a typed error, whatever it tries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelfile.gotemplate.errors import TemplateExecError, TemplateLimitError
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer, Limits
from modelfile.gotemplate.template import Template
from tests.modelfile.gotemplate.cases import execute

LONG = "x" * (1 << 20)
DATA: dict[str, Any] = {
    "Long": LONG,
    "Other": LONG[:-1] + "y",
    "Wide": "é\u200b" * (1 << 18),
    "Many": [1] * 300_000,
    "Keys": {str(number): number for number in range(50_000)},
    "Deep": json.loads("[" * 64 + "]" * 64),
}
FOREVER = "{{ range 1000000000 }}%s{{ end }}"


@pytest.mark.parametrize(
    "template",
    [
        '{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}',
        '{{ define "x" }}{{ if 1 }}{{ range 2 }}{{ template "x" $ }}{{ end }}{{ end }}{{ end }}{{ template "x" . }}',
        FOREVER % "",
        FOREVER % "x",
        FOREVER % ("x" * 100_000),
        FOREVER % FOREVER,
        FOREVER % "{{ continue }}",
        FOREVER % "{{ $.Long }}",
        FOREVER % "{{ $x := print $.Long $.Long }}",
        FOREVER % '{{ $x := printf "%s%s" $.Long $.Long }}',
        FOREVER % '{{ $x := printf "%q" $.Wide }}',
        FOREVER % "{{ $x := html $.Long }}",
        FOREVER % "{{ $x := js $.Wide }}",
        FOREVER % "{{ $x := urlquery $.Wide }}",
        FOREVER % "{{ $x := json $.Many }}",
        FOREVER % "{{ $x := json $.Keys }}",
        FOREVER % "{{ $x := print $.Keys }}",
        FOREVER % "{{ $x := eq $.Long $.Other }}",
        FOREVER % "{{ $x := lt $.Long $.Other }}",
        FOREVER % "{{ $x := len $.Wide }}",
        FOREVER % "{{ $x := slice $.Wide 2 }}",
        FOREVER % "{{ $x := slice $.Many 1 }}",
        FOREVER % "{{ $x := index $.Wide 1 }}",
        FOREVER % "{{ range $.Keys }}{{ break }}{{ end }}",
        '{{ $x := "xxxxxxxx" }}' + FOREVER % "{{ $x = print $x $x }}",
        "{{ .Many }}",
        '{{ printf "' + "%1000000[1]d" * 9 + '" 1 }}',
    ],
    ids=lambda template: template[:60],
)
def test_hostile_templates(template: str) -> None:
    with pytest.raises(TemplateLimitError, match="exceeded"):
        execute(Template.parse(template), DATA)


@pytest.mark.parametrize(
    "template",
    [
        "{{ if 1 }}" * 149 + "x" + "{{ end }}" * 149,
        "{{ range 1 }}" * 149 + "x" + "{{ end }}" * 149,
        "{{ print " + "(print " * 49 + '"x"' + ")" * 49 + " }}",
        "{{ if 1 }}" * 75 + "{{ print " + "(print " * 24 + '"x"' + ")" * 24 + " }}" + "{{ end }}" * 75,
    ],
)
def test_what_may_be_deep(template: str) -> None:
    assert execute(Template.parse(template), {}) == "x"


def test_an_error_at_the_bottom() -> None:
    depth = 44
    template = (
        "{{ if 1 }}" * 15
        + "{{ print "
        + "(print " * depth
        + "(index .Many -1)"
        + ")" * depth
        + " }}"
        + "{{ end }}" * 15
    )
    with pytest.raises(TemplateExecError, match="index out of range: -1"):
        execute(Template.parse(template), DATA)


@pytest.mark.parametrize("expression", [".Deep", "json .Deep", "print .Deep", 'printf "%d" .Deep', "html .Deep"])
def test_deep_values(expression: str) -> None:
    assert execute(Template.parse(f"{{{{ {expression} }}}}"), DATA).count("[") == 64


def test_too_deep_values() -> None:
    data = json.loads("[" * 300 + "]" * 300)
    for expression in (".", "json .", "html ."):
        with pytest.raises(TemplateLimitError, match="depth"):
            execute(Template.parse(f"{{{{ {expression} }}}}"), data)


@pytest.mark.parametrize("expression", ["range .Long }}{{ end", "eq .Many .Many", "call .Long"])
def test_errors_stay_short(expression: str) -> None:
    with pytest.raises(TemplateExecError) as caught:
        execute(Template.parse(f"{{{{ {expression} }}}}"), DATA)
    assert len(str(caught.value)) < 10_000


def test_limits_are_those_that_are_given() -> None:
    template = Template.parse("{{ range 10 }}xx{{ end }}")
    assert execute(template, {}, Limits(text=20)) == "x" * 20
    with pytest.raises(TemplateLimitError, match="19 bytes"):
        execute(template, {}, Limits(text=19))
    with pytest.raises(TemplateLimitError, match="30 steps"):
        execute(template, {}, Limits(steps=30))
    with pytest.raises(TemplateLimitError, match="depth \\(1\\)"):
        execute(template, {}, Limits(depth=1))


def test_a_buffer_is_checked_before_it_grows() -> None:
    buffer = Buffer(Budget(Limits(text=3)))
    buffer.write("ab")
    with pytest.raises(TemplateLimitError):
        buffer.write("cd")
    assert buffer.text() == "ab"


def test_leaving_makes_room() -> None:
    budget = Budget(DEFAULT_LIMITS)
    for _ in range(1000):
        budget.enter(100)
        budget.leave(100)
