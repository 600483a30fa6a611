"""Trees, and the errors that say where there is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from modelfile.gotemplate.errors import TemplateSyntaxError
from modelfile.gotemplate.limits import DEEPEST_SOURCE, LONGEST_SOURCE, MOST_TOKENS
from modelfile.gotemplate.nodes import Action, Call, If, Range, Text, source
from modelfile.gotemplate.parser import parse
from tests.modelfile.gotemplate.cases import outcome
from tests.modelfile.gotemplate.test_lexer import soup

FUNCTIONS = ("len", "eq", "print")


def test_a_tree() -> None:
    (head, loop) = parse("a{{ range $i, $m := .L }}{{ if eq $i 0 }}b{{ else }}{{ $m }}{{ end }}{{ end }}", FUNCTIONS)[
        ""
    ]
    assert isinstance(head, Text)
    assert isinstance(loop, Range)
    assert [str(variable) for variable in loop.pipe.variables] == ["$i", "$m"]
    (branch,) = loop.body
    assert isinstance(branch, If)
    assert [type(node) for node in (*branch.body, *(branch.otherwise or ()))] == [Text, Action]


def test_definitions_and_blocks() -> None:
    bodies = parse('{{ define "a" }}x{{ end }}{{ block "b" . }}y{{ end }}', FUNCTIONS)
    assert {name: source(body) for name, body in bodies.items()} == {"a": "x", "b": "y", "": '{{template "b" .}}'}
    assert isinstance(bodies[""][0], Call)


def test_else_if_is_an_if_in_the_else() -> None:
    (branch,) = parse("{{ if 1 }}a{{ else if 2 }}b{{ end }}", FUNCTIONS)[""]
    assert str(branch) == "{{if 1}}a{{else}}{{if 2}}b{{end}}{{end}}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("\n\n{{ .x", ":3: unclosed action"),
        ("{{ .x\n\n", ":3: unclosed action started at :1"),
        ('{{ if .x }}\n{{ "a', ":2: unterminated quoted string"),
        ("{{ .x\n@ }}", ':2: unexpected "@" in operand'),
        ("{{ if .x }}\n", ":2: unexpected EOF"),
        ("{{ end }}", ":1: unexpected {{end}}"),
        ("{{ foo }}", ':1: function "foo" not defined'),
        ("{{ $x }}", ':1: undefined variable "$x"'),
        ("{{ if 1 }}{{ $x := 1 }}{{ end }}{{ $x }}", ':1: undefined variable "$x"'),
        ("{{ .x | 1 }}", ":1: non executable command in pipeline stage 2"),
        ("{{ if }}{{ end }}", ":1: missing value for if"),
    ],
)
def test_errors(template: str, why: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=f"^{re.escape('template: ' + why)}$"):
        parse(template, FUNCTIONS)


@pytest.mark.parametrize(
    "template",
    [
        "{{ if 1 }}" * 10_000,
        "{{ " + "(" * 10_000,
        "{{ if 1 }}" + "{{ else if 1 }}" * 10_000 + "{{ end }}",
        "{{ print " + "(print " * 1000 + ")" * 1000 + "}}",
    ],
)
def test_nesting_has_an_end(template: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="max expression depth exceeded"):
        parse(template, FUNCTIONS)


def test_nesting_up_to_the_limit() -> None:
    blocks = DEEPEST_SOURCE
    assert parse("{{ if 1 }}" * blocks + "{{ end }}" * blocks, FUNCTIONS)
    parentheses = DEEPEST_SOURCE // 3
    assert parse("{{ " + "(print " * parentheses + "1" + ")" * parentheses + " }}", FUNCTIONS)


def test_size_has_an_end() -> None:
    with pytest.raises(TemplateSyntaxError, match="tokens"):
        parse("{{.}}" * (MOST_TOKENS // 3 + 1), FUNCTIONS)
    with pytest.raises(TemplateSyntaxError, match="characters"):
        parse("x" * (LONGEST_SOURCE + 1), FUNCTIONS)


@given(soup)
def test_nothing_but_a_syntax_error(template: str) -> None:
    bodies, error = outcome(lambda: parse(template, FUNCTIONS))
    assert "" in bodies if error is None else re.match(r"template: :\d+: ", error)
