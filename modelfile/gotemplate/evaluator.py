"""Expressions: what a pipeline gives, and errors that say where it fails."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from modelfile.gotemplate.errors import TemplateExecError
from modelfile.gotemplate.functions import FUNCTIONS
from modelfile.gotemplate.limits import PARENTHESES, Budget
from modelfile.gotemplate.nodes import (
    Chain,
    Command,
    Field,
    Identifier,
    Literal,
    Nil,
    Node,
    Pipe,
    String,
    Variable,
)
from modelfile.gotemplate.quoting import quote
from modelfile.gotemplate.scope import Scope
from modelfile.gotemplate.strings import byte_length
from modelfile.gotemplate.values import (
    ANY,
    NO_VALUE,
    STRING,
    Function,
    FunctionError,
    MapType,
    Parameter,
    PointerType,
    StructType,
    Value,
    string,
)

_LONGEST_ERROR = 8192  # characters; values and sources that errors quote may be much longer


class Given(NamedTuple):
    """What stands behind the head of a command: arguments, and what the command before in the pipeline gave."""

    arguments: tuple[Node, ...]
    final: Value | None


NOTHING = Given((), None)


class MissingKey(Enum):
    """What a map gives for a key that it has not (Go: the option `missingkey`)."""

    ZERO = "zero"
    """The zero value of its elements: in a map of interfaces a nil, of which no field can be taken."""
    INVALID = "default"
    """No value at all; its fields are no value either."""


class Evaluator:
    """Evaluates the expressions of one template body, with the variables that exist there. `dot` is the value of `.`"""

    def __init__(self, name: str, source: str, dot: Value, budget: Budget, missing_key: MissingKey) -> None:
        self.variables: Scope[Value] = Scope(dot)
        self.budget = budget
        self.node: Node | None = None
        """What is being evaluated; errors name it."""
        self._name = name
        self._source = source
        self._missing_key = missing_key

    def inside(self, name: str, dot: Value) -> Evaluator:
        """The evaluator for a template that is called from this one; it sees none of these variables."""
        return Evaluator(name, self._source, dot, self.budget, self._missing_key)

    def error(self, why: str) -> TemplateExecError:
        """The error to raise at the current node."""
        assert self.node is not None  # nothing fails before something is evaluated
        before = self._source[: self.node.at]
        line, start = before.count("\n") + 1, before.rfind("\n") + 1
        place = f":{line}:{byte_length(before[start:])}"
        message = f"template: {place}: executing {quote(self._name)} at <{self.node}>: {why}"
        return TemplateExecError(message if len(message) <= _LONGEST_ERROR else f"{message[:_LONGEST_ERROR]}...")

    def pipeline(self, dot: Value, pipe: Pipe) -> Value:
        """The value of a pipeline, never an interface; its variables are set. Raises TemplateExecError."""
        self.node = pipe
        value: Value | None = None
        for command in pipe.commands:
            value = self._command(dot, command, value).held()
        assert value is not None  # the parser refuses an empty pipeline
        for variable in pipe.variables:
            if pipe.assigns:
                self.assign(variable, value)
            else:
                self.variables.declare(variable.path[0], value)
        return value

    def assign(self, variable: Variable, value: Value) -> None:
        """Set a variable that exists. Raises TemplateExecError."""
        cell = self.variables.find(variable.path[0])
        if cell is None:
            raise self.error(f"undefined variable: {variable.path[0]}")
        cell.value = value

    def _command(self, dot: Value, command: Command, final: Value | None) -> Value:
        head, arguments = command.head, command.arguments
        self.budget.spend(2 + len(arguments))
        given = NOTHING if final is None and not arguments else Given(arguments, final)
        if isinstance(head, Nil):
            self.node = head
            self._refuse(head, given)
            raise self.error("nil is not a command")
        return self._operand(dot, head, given, command)

    def _operand(self, dot: Value, node: Node, given: Given, call: Node) -> Value:
        """The value of anything but nil; `call` is the node to blame for what a function says."""
        match node:
            case Field():
                self.node = node
                return self._fields(dot, dot, node.path, given)
            case Identifier():
                self.node = node
                return self._function(dot, node.name, given, call)
            case Variable():
                self.node = node
                return self._variable(dot, node, given)
            case Pipe():
                self._refuse(node, given)
                return self._parenthesized(dot, node)
            case Chain():
                self.node = node
                receiver = self._argument(dot, node.operand, Parameter.VALUE)
                return self._fields(dot, receiver, node.path, given)
        self.node = node
        self._refuse(node, given)
        return self._constant(node) if isinstance(node, Literal) else dot

    def _constant(self, literal: Literal) -> Value:
        if literal.constant is None:
            raise self.error(f"{literal} overflows int")
        return literal.constant

    def _refuse(self, head: Node, given: Given) -> None:
        """Whatever is no function takes no arguments."""
        if given is not NOTHING:
            raise self.error(f"can't give argument to non-function {head}")

    def _parenthesized(self, dot: Value, pipe: Pipe) -> Value:
        self.budget.enter(PARENTHESES)
        value = self.pipeline(dot, pipe)
        self.budget.leave(PARENTHESES)
        return value

    def _variable(self, dot: Value, variable: Variable, given: Given) -> Value:
        cell = self.variables.find(variable.path[0])
        if cell is None:
            raise self.error(f"undefined variable: {variable.path[0]}")
        if len(variable.path) > 1:
            return self._fields(dot, cell.value, variable.path[1:], given)
        self._refuse(variable, given)
        return cell.value

    def _fields(self, dot: Value, receiver: Value, path: tuple[str, ...], given: Given) -> Value:
        """`.A.B.C` of a value; only the last may be a method that takes arguments."""
        for name in path[:-1]:
            self.budget.spend()
            receiver = self._field(dot, receiver, name, NOTHING)
        return self._field(dot, receiver, path[-1], given)

    def _field(self, dot: Value, receiver: Value, name: str, given: Given) -> Value:
        if not receiver.valid:
            return NO_VALUE
        target = receiver.indirect()
        if target.dead_end and target.type is ANY:
            raise self.error(f"nil pointer evaluating {receiver.type.name}.{name}")
        if (method := target.type.methods.get(name)) is not None:
            return self._call(dot, Function(lambda budget: method(target, budget)), name, given)
        found = self._member(receiver, target, name)
        if given is not NOTHING:
            why = "is not a method but has arguments"
            if isinstance(target.type, StructType):
                why = "has arguments but cannot be invoked as function"
            raise self.error(f"{name} {why}")
        return found

    def _member(self, receiver: Value, target: Value, name: str) -> Value:
        """A field of a struct or an element of a map."""
        if isinstance(target.type, MapType):
            if self._missing_key is MissingKey.INVALID and name not in (target.data or {}):
                return NO_VALUE
            return target.element(name)
        if isinstance(target.type, StructType) and (member := target.type.member(name)) is not None:
            return member.of(target.data)
        if isinstance(target.type, PointerType):
            raise self.error(f"nil pointer evaluating {receiver.type.name}.{name}")
        raise self.error(f"can't evaluate field {name} in type {receiver.type.name}")

    def _function(self, dot: Value, name: str, given: Given, call: Node) -> Value:
        try:
            return self._call(dot, FUNCTIONS[name], name, given)
        except FunctionError as error:
            self.node = call
            raise self.error(f"error calling {name}: {error}") from None

    def _call(self, dot: Value, function: Function, name: str, given: Given) -> Value:
        """The result of a function. Raises FunctionError if the function itself does."""
        self._check_count(function, name, given)
        values: list[Value] = []
        stops_at = function.stops_at
        for argument in given.arguments:
            value = self._argument(dot, argument, function.parameter(len(values)))
            if stops_at is not None and value.truth is stops_at:
                return value
            values.append(value)
        if given.final is not None:
            values.append(self._fit(given.final, function.parameter(len(values))))
        if function.shows_callee:
            values.insert(0, string(str(given.arguments[0]) if given.arguments else _described(values[0])))
        return function.run(self.budget, *values)

    def _check_count(self, function: Function, name: str, given: Given) -> None:
        count, fixed = len(given.arguments), len(function.fixed)
        piped = given.final is not None
        if function.rest is not None and count + piped < fixed:
            raise self.error(f"wrong number of args for {name}: want at least {fixed} got {count}")
        if function.rest is None and count + piped != fixed:
            raise self.error(f"wrong number of args for {name}: want {fixed} got {count + piped}")

    def _argument(self, dot: Value, node: Node, parameter: Parameter) -> Value:
        self.node = node
        if isinstance(node, Literal):
            if parameter is Parameter.STRING and not isinstance(node, String):
                raise self.error(f"expected string; found {node}")
            return self._constant(node)
        if isinstance(node, Nil):
            if parameter is Parameter.STRING:
                raise self.error("cannot assign nil to string")
            return NO_VALUE
        value = self._operand(dot, node, NOTHING, node)
        return value if parameter is Parameter.VALUE else self._fit(value, parameter)

    def _fit(self, value: Value, parameter: Parameter) -> Value:
        """A value as a parameter takes it."""
        if parameter is Parameter.VALUE:
            return value
        held = value.held()
        if parameter is Parameter.ANY or held.type is STRING:
            return held
        if not value.valid:
            raise self.error("invalid value; expected string")
        found = held if held.valid else value
        raise self.error(f"wrong type for value; expected string; got {found.type.name}")


def _described(value: Value) -> str:
    """What Go's `Value.String` makes of a value."""
    return str(value.data) if value.type is STRING else f"<{value.type.name} Value>"
