"""Templates of our own, and what Go and Ollama answered to them."""

from __future__ import annotations

from typing import Any

import pytest

from modelfile.gotemplate import ChatTemplate, Template, infer_think_tags, tool_tag
from modelfile.gotemplate.nodes import source
from tests.modelfile.gotemplate.cases import ANSWERS, Case, conversation, execute, label, outcome


@pytest.mark.parametrize("case", ANSWERS["language"], ids=label)
def test_as_go_answers(case: Case) -> None:
    assert outcome(lambda: execute(Template.parse(case["template"]), ANSWERS["data"])) == (case["out"], case["err"])


@pytest.mark.parametrize("case", ANSWERS["conversations"], ids=label)
def test_as_ollama_renders(case: Case) -> None:
    template = ChatTemplate.parse(case["template"])
    learned: tuple[Any, ...] = list(template.variables), tool_tag(template.template)
    assert learned == (case["vars"] or [], case["tag"])
    assert list(infer_think_tags(template.template)) == case["think"]
    rendered = outcome(lambda: template.render(conversation(case["input"])))
    assert rendered == (case["out"], case["err"])


@pytest.mark.parametrize("case", [case for case in ANSWERS["language"] if case["err"] is None], ids=label)
def test_the_printed_source_is_the_same_template(case: Case) -> None:
    template = Template.parse(case["template"])
    printed = "".join(
        f'{{{{define "{name}"}}}}{source(body)}{{{{end}}}}' for name, body in template.bodies.items() if name
    )
    if '"{{"' in printed or "{{{" in printed:
        pytest.skip("a brace of the text would join those of an action")
    again = Template.parse(source(template.root) + printed)
    assert source(again.root) == source(template.root)
    assert execute(again, ANSWERS["data"]) == execute(template, ANSWERS["data"])
