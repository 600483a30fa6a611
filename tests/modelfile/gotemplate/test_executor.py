"""Loops, jumps and what variables outlive."""

import pytest

from modelfile.gotemplate.template import Template
from tests.modelfile.gotemplate.cases import execute

CALL = '{{ template "t" .L }}'
DATA = {"L": ["a", "b", "c"], "M": {"b": 1, "a": 2}, "S": "s"}


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ('{{ range .L }}{{ with . }}{{ if eq . "b" }}{{ break }}{{ end }}{{ end }}{{ . }}{{ end }}!', "a!"),
        ('{{ range .L }}{{ $x := . }}{{ if eq . "b" }}{{ continue }}{{ end }}{{ $x }}{{ end }}', "ac"),
        ("{{ range $k, $v := .M }}{{ $k }}{{ $v }}{{ end }}", "a2b1"),
        ("{{ $x := 0 }}{{ range .L }}{{ $x = . }}{{ end }}{{ $x }}", "c"),
        ("{{ $x := 0 }}{{ range .L }}{{ $x := . }}{{ end }}{{ $x }}", "0"),
        ("{{ range $i := 3 }}{{ $i }}{{ else }}none{{ end }}{{ range 0 }}{{ else }}none{{ end }}", "012none"),
        ("{{ with .S }}{{ . }}{{ $.L }}{{ end }}{{ with .X }}{{ else with .S }}{{ . }}{{ end }}", "s[a b c]s"),
        ('{{ define "t" }}{{ with . }}{{ len . }}{{ template "t" (slice . 1) }}{{ end }}{{ end }}' + CALL, "321"),
    ],
)
def test_statements(template: str, output: str) -> None:
    assert execute(Template.parse(template), DATA) == output
