"""All functions of a template: Go's own, and those that Ollama adds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType

from modelfile.gotemplate.comparison import COMPARISONS
from modelfile.gotemplate.containers import CONTAINERS
from modelfile.gotemplate.encoding import print_as_json
from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.signature import Function, FunctionError, Parameter
from modelfile.gotemplate.texts import TEXTS
from modelfile.gotemplate.values import Value, boolean, string

_CLOCK = 5  # steps that it costs to ask for the time


def last(budget: Budget, *values: Value) -> Value:
    """What `and` and `or` give if no argument before the last decided."""
    return values[-1]


def not_(budget: Budget, value: Value) -> Value:
    """The opposite truth."""
    return boolean(not value.truth)


def call(budget: Budget, source: Value, callee: Value, *arguments: Value) -> Value:
    """Would call a value that is a function; there is no such value here."""
    callee = callee.held()
    if not callee.valid:
        raise FunctionError("call of nil")
    raise FunctionError(f"non-function {source.data} of type {callee.type.name}")


def json(budget: Budget, value: Value) -> Value:
    """The value as JSON; nothing if it has no JSON."""
    return print_as_json(value, budget)


def current_date(budget: Budget, *layouts: Value) -> Value:
    """Today, as 2006-01-02; layouts are accepted and ignored."""
    budget.spend(_CLOCK)
    return string(date.today().isoformat())


def yesterday_date(budget: Budget, *layouts: Value) -> Value:
    """The day before, as 2006-01-02."""
    budget.spend(_CLOCK)
    return string((date.today() - timedelta(days=1)).isoformat())


def to_type_script_type(budget: Budget, value: Value) -> Value:
    """The TypeScript type of a tool's property, `any` of everything else."""
    method = value.type.methods.get("ToTypeScriptType")
    return string("any") if method is None else method(value, budget)


_VALUE, _ANY, _STRING = Parameter.VALUE, Parameter.ANY, Parameter.STRING
_LOGIC = {
    "and": Function(last, (_VALUE,), _VALUE, stops_at=False),
    "or": Function(last, (_VALUE,), _VALUE, stops_at=True),
    "not": Function(not_, (_VALUE,)),
    "call": Function(call, (_VALUE,), _VALUE, shows_callee=True),
}
_ADDED = {
    "json": Function(json, (_ANY,)),
    "currentDate": Function(current_date, rest=_STRING),
    "yesterdayDate": Function(yesterday_date, rest=_STRING),
    "toTypeScriptType": Function(to_type_script_type, (_ANY,)),
}
FUNCTIONS: Mapping[str, Function] = MappingProxyType({**_LOGIC, **CONTAINERS, **TEXTS, **COMPARISONS, **_ADDED})
