"""Where errors point to."""

import re

import pytest

from modelfile.gotemplate.errors import TemplateExecError
from modelfile.gotemplate.template import Template
from tests.modelfile.gotemplate.cases import execute


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("é{{ .S.Foo }}", ':1:7: executing "" at <.S.Foo>: can\'t evaluate field Foo in type interface {}'),
        ("a\né {{ len 3 }}", ':2:6: executing "" at <len 3>: error calling len: len of type int'),
        ('{{ define "x" }}\n{{ .Foo }}{{ end }}{{ template "x" .S }}', ':2:3: executing "x" at <.Foo>: can\'t'),
        ('{{ template "n" }}', ':1:12: executing "" at <{{template "n"}}>: template "n" not defined'),
        ("{{ print (len (index .L 9)) }}", ':1:15: executing "" at <index .L 9>: error calling index: index out of'),
        ("{{ $x := 1 }}{{ $x.Foo.Bar }}", ':1:18: executing "" at <$x.Foo.Bar>: can\'t evaluate field Foo in type int'),
    ],
)
def test_places(template: str, why: str) -> None:
    with pytest.raises(TemplateExecError, match=f"^{re.escape('template: ' + why)}"):
        execute(Template.parse(template), {"S": "s", "L": []})


def test_arguments_behind_the_deciding_one_are_not_evaluated() -> None:
    assert execute(Template.parse("{{ or 1 (index .L 9) }}{{ and 0 .L.x }}"), {"L": []}) == "10"
