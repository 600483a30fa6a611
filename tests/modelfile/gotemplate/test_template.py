"""Templates as wholes: random ones fail in the documented ways only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.errors import TemplateError, TemplateExecError
from modelfile.gotemplate.evaluator import MissingKey
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer, Limits
from modelfile.gotemplate.nodes import source
from modelfile.gotemplate.template import Template
from tests.modelfile.gotemplate.cases import execute
from tests.modelfile.gotemplate.test_encoding import json_values

SMALL = Limits(steps=3000, text=2000, depth=30)
names = st.sampled_from([".a", ".b", ".a.b", "$", "$.a", "$x", ".", "nil", "1", "2.5", '"é"', "true", "'c'"])
functions = st.sampled_from(
    ["len", "index", "slice", "print", "printf", "html", "js", "urlquery", "eq", "lt", "ge", "and", "or", "not", "json"]
)
operands = st.recursive(
    names,
    lambda inner: st.builds(lambda f, xs: f"({f} {' '.join(xs)})", functions, st.lists(inner, max_size=3)),
    max_leaves=5,
)
pipelines = st.builds(
    " | ".join, st.lists(operands | st.builds("{} {}".format, functions, operands), min_size=1, max_size=3)
)
templates = st.recursive(
    st.sampled_from(["x", " \n", "é", "{{ $x = . }}", "{{ break }}"]) | pipelines.map("{{{{ {} }}}}".format),
    lambda inner: (
        st.builds(
            "{{{{ {} {} }}}}{}{{{{ else }}}}{}{{{{ end }}}}".format,
            st.sampled_from(["if", "range", "with"]),
            pipelines,
            inner,
            inner,
        )
        | st.lists(inner, max_size=3).map("".join)
    ),
    max_leaves=8,
)


@given(templates, json_values)
def test_random_templates_fail_as_documented(text: str, data: Any) -> None:
    try:
        template = Template.parse("{{ $x := . }}" + text)
        output = execute(template, {"a": data, "b": [data]}, SMALL)
    except TemplateError:
        return
    assert len(output) <= SMALL.text
    output.encode()
    assert source(Template.parse(source(template.root)).root) == source(template.root)


@given(st.text())
def test_text_is_copied(text: str) -> None:
    text = text.replace("{{", "")
    assert execute(Template.parse(text), {}) == text


def test_what_a_missing_key_is() -> None:
    template = Template.parse("{{ .A.B }}")
    with pytest.raises(TemplateExecError, match=r"at <\.A\.B>: nil pointer evaluating interface \{\}\.B$"):
        execute(template, {})
    output = Buffer(Budget(DEFAULT_LIMITS))
    template.write({}, output, MissingKey.INVALID)
    assert output.text() == "<no value>"


def test_another_root_keeps_the_definitions() -> None:
    template = Template.parse('{{ define "x" }}[{{ . }}]{{ end }}a')
    other = template.with_root(Template.parse('{{ template "x" 1 }}').root)
    assert (execute(template, {}), execute(other, {})) == ("a", "[1]")


def test_one_template_in_many_threads() -> None:
    template = Template.parse("{{ $s := 0 }}{{ range $i := . }}{{ $s = print $s $i }}{{ end }}{{ $s }}")
    inputs = [list(range(number)) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(partial(execute, template), inputs)) == [execute(template, data) for data in inputs]
