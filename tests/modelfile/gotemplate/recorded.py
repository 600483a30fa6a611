"""Every recorded case: the language, conversations, and what is read from templates."""

from __future__ import annotations

import pytest

from modelfile.gotemplate import ChatTemplate, Template, infer_think_tags, tool_tag
from tests.modelfile.gotemplate.cases import RECORDED, Case, conversation, execute, label, outcome, section

_CURRENT_WEATHER = (
    '{"name":"get_weather","description":"Get the \\u003ccurrent\\u003e weather \\u0026 more","parameters":'
    '{"type":"object","required":["city"],"properties":{"city":{"type":["string","null"],"description":"City name"},'
    '"list":{"type":"array","items":{"minLength":1,"type":"string"}},"opts":{"type":"object","properties":'
    '{"z":{"type":"string"},"a":{"type":"integer"}},"required":["z"]},"u":{"anyOf":[{"type":"string"},'
    '{"type":"number"}]},"unit":{"type":"string","enum":["c","f"]}}}}'
)
OURS = {
    "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ .Function }};{{ end }}": (
        f'{_CURRENT_WEATHER};{{"name":"noop","description":"","parameters":{{"type":"","properties":null}}}};'
    ),
    "{{ json .Prompt }}<A>": '"u1"<A>',
    '{{ define "x" }}[{{ . }}]{{ end }}{{ template "x" .Prompt }}<A>': "[u1]<A>",
}
"""Where we differ on purpose: functions of tools print as JSON; legacy templates may call functions and templates."""


def expected(case: Case) -> tuple[str | None, str | None]:
    if (ours := OURS.get(case["template"])) is not None:
        return ours, None
    return (None, case["err"]) if case.get("err") else (case["out"], None)


@pytest.mark.parametrize("case", section("go_language"), ids=label)
def test_go_language(case: Case) -> None:
    data = RECORDED["go_language"]["data"]
    assert outcome(lambda: execute(Template.parse(case["template"]), data)) == expected(case)


@pytest.mark.parametrize("case", section("template_render"), ids=label)
def test_template_render(case: Case) -> None:
    rendered = outcome(lambda: ChatTemplate.parse(case["template"]).render(conversation(case["input"])))
    assert rendered == expected(case)


@pytest.mark.parametrize("case", section("legacy_render"), ids=label)
def test_legacy_render(case: Case) -> None:
    template, error = outcome(lambda: ChatTemplate.parse(case["template"]))
    if template is None:
        assert (None, error) == expected(case)
        return
    assert list(template.variables) == case["vars"]
    rendered = outcome(lambda: template.render(conversation({"Messages": case["messages"]})))
    if case["panic"]:
        assert rendered[0] is not None
    else:
        assert rendered == expected(case)


@pytest.mark.parametrize("case", section("template_K"), ids=label)
def test_template_k(case: Case) -> None:
    template = ChatTemplate.parse(RECORDED["template_K"]["template"])
    assert template.render(conversation(case["input"])) == case["out"]
    assert tool_tag(template.template) == case["tag"]
    assert list(infer_think_tags(template.template)) == case["think"]


@pytest.mark.parametrize("case", section("infer_think_tags"), ids=label)
def test_infer_think_tags(case: Case) -> None:
    tags, error = outcome(lambda: list(infer_think_tags(Template.parse(case["template"]))))
    assert (tags, error) == (case["tags"], case["err"])


@pytest.mark.parametrize("case", section("tool_tag"), ids=label)
def test_tool_tag(case: Case) -> None:
    assert tool_tag(Template.parse(case["template"])) == case["tag"]
