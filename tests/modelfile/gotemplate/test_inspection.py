"""Facts read from a template without executing it."""

import pytest

from modelfile.gotemplate.template import Template, calls_without_argument, infer_think_tags, tool_tag


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (
            "{{ .A.B | print $.C }}{{ if (len .D) }}{{ .E }}{{ else }}{{ .F }}{{ end }}",
            ["$", "a", "b", "c", "d", "e", "f"],
        ),
        ("{{ (index .A 0).B }}", []),
        ("{{ print (index .A 0) }}{{ $x := .B }}{{ $x.C }}", ["$x", "a", "b", "c"]),
        ('{{ define "x" }}{{ .A }}{{ end }}{{ template "x" .B }}', ["a", "b"]),
        ("{{ range $i, $m := .MESSAGES }}{{ end }}", ["messages"]),
    ],
)
def test_variables(template: str, names: list[str]) -> None:
    assert list(Template.parse(template).variables()) == names


@pytest.mark.parametrize(
    ("template", "bare"),
    [
        ('{{ template "x" }}', True),
        ('{{ define "y" }}{{ if 1 }}{{ else }}{{ template "x" }}{{ end }}{{ end }}', True),
        ('{{ template "x" . }}{{ block "y" nil }}{{ end }}', False),
    ],
)
def test_calls_without_argument(template: str, bare: bool) -> None:
    assert calls_without_argument(Template.parse(template)) is bare


@pytest.mark.parametrize(
    ("template", "tags"),
    [
        ("{{ range $.Messages }}<t>{{ .Thinking }}</t>{{ end }}", ("", "")),
        ("{{ range .Messages }}{{ range .X }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}", ("", "")),
        (
            "{{ range .Messages }}<a>{{ .Thinking }}</a>{{ if 1 }}<b>{{ .Thinking }}</b>{{ end }}{{ end }}",
            ("<b>", "</b>"),
        ),
        (
            "{{ range .Messages }}{{ if 1 }}{{ else }}<a>{{ print (.Thinking.X) }}</a>{{ end }}{{ end }}",
            ("<a>", "</a>"),
        ),
    ],
)
def test_think_tags(template: str, tags: tuple[str, str]) -> None:
    assert infer_think_tags(Template.parse(template)) == tags


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("{{ if .ToolCalls }} \n{{ range .ToolCalls }}{{ if .X }}{{ else }}<t>{{ end }}{{ end }}{{ end }}", "<t>"),
        ("{{ if .ToolCalls }}{{ .Content }}<t>{{ end }}", "{"),
        ("{{ if .ToolCalls }}{{ range .ToolCalls }}{{ end }}<t>{{ end }}", "{"),
        ("{{ if $m.ToolCalls }}<t>{{ end }}", "{"),
        ("{{ if 1 }}{{ else if .Message.ToolCalls }}<t>\r\n<u>{a{{ end }}", "<t>\n<u>"),
    ],
)
def test_tool_tag(template: str, tag: str) -> None:
    assert tool_tag(Template.parse("{{ $m := . }}" + template)) == tag
