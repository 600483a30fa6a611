"""The functions that Ollama adds, and the table of all."""

from datetime import date, timedelta

from modelfile.gotemplate.functions import FUNCTIONS
from modelfile.gotemplate.template import Template
from tests.modelfile.gotemplate.cases import execute

GO = {"and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice"}
GO |= {"print", "printf", "println", "html", "js", "urlquery", "call"}


def test_all_are_there() -> None:
    assert set(FUNCTIONS) == GO | {"json", "currentDate", "yesterdayDate", "toTypeScriptType"}


def test_dates() -> None:
    before = date.today()
    shown = execute(Template.parse('{{ currentDate }} {{ yesterdayDate "2006" }}'), {})
    after = date.today()
    assert shown in {f"{day} {day - timedelta(days=1)}" for day in (before, after)}


def test_what_is_no_property_has_any_type() -> None:
    assert execute(Template.parse("{{ toTypeScriptType . }}"), {"type": "string"}) == "any"
