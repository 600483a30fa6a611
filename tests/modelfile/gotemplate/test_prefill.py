"""Where legacy templates are cut."""

import pytest

from modelfile.gotemplate.chat import cut_after_response
from modelfile.gotemplate.nodes import source
from modelfile.gotemplate.template import Template


@pytest.mark.parametrize(
    ("template", "cut"),
    [
        ("a{{.Response}}b{{.X}}", "a{{.Response}}"),
        ("a{{.X}}b", "a{{.X}}b"),
        ("a{{print .Response .X (len .Y) .Response}}b", "a{{print .Response .Response}}"),
        ("a{{.Response | print}}b", "a"),
        ("a{{print (.Response | print)}}b", "a{{print}}"),
        ("a{{$x := .Response}}b", "a{{$x := .Response}}"),
        ("{{if .Response}}a{{.Response}}b{{else}}c{{end}}d", "{{if .Response}}a{{.Response}}{{else}}{{end}}"),
        ("{{if .X}}a{{else}}{{.Response}}b{{end}}c", "{{if .X}}a{{else}}{{.Response}}{{end}}"),
        ("{{range .L}}{{.Message.Response}}b{{end}}c", "{{range .L}}{{.Message.Response}}{{end}}"),
        ("{{$.Response}}b", "{{$.Response}}b"),
    ],
)
def test_cut(template: str, cut: str) -> None:
    assert source(cut_after_response(Template.parse(template).root)) == cut
