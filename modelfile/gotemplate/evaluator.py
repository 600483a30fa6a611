"""Expressions: what a pipeline gives, and errors that say where it fails."""

from __future__ import annotations

from enum import Enum

from modelfile.gotemplate.errors import TemplateExecError
from modelfile.gotemplate.functions import FUNCTIONS
from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Node,
    Number,
    Pipe,
    String,
    Variable,
)
from modelfile.gotemplate.quoting import quote
from modelfile.gotemplate.scope import Scope
from modelfile.gotemplate.signature import Function, FunctionError, Parameter
from modelfile.gotemplate.strings import byte_length
from modelfile.gotemplate.values import (
    ANY,
    NO_VALUE,
    STRING,
    MapType,
    PointerType,
    StructType,
    Value,
    boolean,
    string,
)

Words = tuple[Node, ...]
"""A command: what it begins with, and the arguments."""


class MissingKey(Enum):
    """What a map gives for a key that it has not (Go: the option `missingkey`)."""

    ZERO = "zero"
    """The zero value of its elements: in a map of interfaces a nil, of which no field can be taken."""
    INVALID = "default"
    """No value at all; its fields are no value either."""


class Evaluator:
    """Evaluates the expressions of one template body, with the variables that exist there.

    In all methods `dot` is the value of `.`, and `final` what the command before in the pipeline gave, if there is one.
    """

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
        return TemplateExecError(f"template: {place}: executing {quote(self._name)} at <{self.node}>: {why}")

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
        words = command.words
        self.budget.spend(len(words))
        match first := words[0]:
            case Field():
                self.node = first
                return self._fields(dot, dot, first.path, words, final)
            case Identifier():
                return self._function(dot, first, command, words, final)
            case Variable():
                return self._variable(dot, first, words, final)
            case Chain():
                return self._chain(dot, first, words, final)
            case Pipe():
                self._refuse_arguments(words, final)
                return self._parenthesized(dot, first)
        self.node = first
        self._refuse_arguments(words, final)
        if isinstance(first, Nil):
            raise self.error("nil is not a command")
        return dot if isinstance(first, Dot) else self._constant(first)

    def _refuse_arguments(self, words: Words, final: Value | None) -> None:
        if len(words) > 1 or final is not None:
            raise self.error(f"can't give argument to non-function {words[0]}")

    def _parenthesized(self, dot: Value, pipe: Pipe) -> Value:
        self.budget.enter()
        value = self.pipeline(dot, pipe)
        self.budget.depth -= 1
        return value

    def _constant(self, node: Node) -> Value:
        match node:
            case String():
                return string(node.value)
            case Bool():
                return boolean(node.value)
        assert isinstance(node, Number)
        if node.constant is None:
            raise self.error(f"{node} overflows int")
        return node.constant

    def _variable(self, dot: Value, variable: Variable, words: Words, final: Value | None) -> Value:
        self.node = variable
        cell = self.variables.find(variable.path[0])
        if cell is None:
            raise self.error(f"undefined variable: {variable.path[0]}")
        if len(variable.path) > 1:
            return self._fields(dot, cell.value, variable.path[1:], words, final)
        self._refuse_arguments(words, final)
        return cell.value

    def _chain(self, dot: Value, chain: Chain, words: Words, final: Value | None) -> Value:
        self.node = chain
        receiver = self._argument(dot, Parameter.VALUE, chain.operand)
        return self._fields(dot, receiver, chain.path, words, final)

    def _fields(self, dot: Value, receiver: Value, path: tuple[str, ...], words: Words, final: Value | None) -> Value:
        """`.A.B.C` of a value; only the last may be a method that takes arguments."""
        for name in path[:-1]:
            receiver = self._field(dot, receiver, name, (), None)
        return self._field(dot, receiver, path[-1], words, final)

    def _field(self, dot: Value, receiver: Value, name: str, words: Words, final: Value | None) -> Value:
        if not receiver.valid:
            return NO_VALUE
        target = receiver.indirect()
        if target.dead_end and target.type is ANY:
            raise self.error(f"nil pointer evaluating {receiver.type.name}.{name}")
        if (method := target.type.methods.get(name)) is not None:
            bound = Function(lambda budget: method(target, budget))
            return self._call(dot, bound, name, words, final)
        found = self._member(receiver, target, name)
        if len(words) > 1 or final is not None:
            what = "is not a method but has arguments"
            if isinstance(target.type, StructType):
                what = "has arguments but cannot be invoked as function"
            raise self.error(f"{name} {what}")
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

    def _function(self, dot: Value, identifier: Identifier, node: Node, words: Words, final: Value | None) -> Value:
        self.node = identifier
        try:
            return self._call(dot, FUNCTIONS[identifier.name], identifier.name, words, final)
        except FunctionError as error:
            self.node = node
            raise self.error(f"error calling {identifier.name}: {error}") from None

    def _call(self, dot: Value, function: Function, name: str, words: Words, final: Value | None) -> Value:
        """The result of a function. Raises FunctionError if the function itself does."""
        self._check_count(function, name, len(words[1:]), final is not None)
        arguments: list[Value] = []
        for place, word in enumerate(words[1:]):
            value = self._argument(dot, function.parameter(place), word)
            if value.truth is function.stops_at:
                return value
            arguments.append(value)
        if final is not None:
            arguments.append(self._fit(final, function.parameter(len(arguments))))
        if function.shows_callee:
            arguments.insert(0, string(str(words[1]) if len(words) > 1 else _described(final)))
        return function.run(self.budget, *arguments)

    def _check_count(self, function: Function, name: str, given: int, piped: bool) -> None:
        fixed = len(function.fixed)
        if function.rest is not None and given + piped < fixed:
            raise self.error(f"wrong number of args for {name}: want at least {fixed} got {given}")
        if function.rest is None and given + piped != fixed:
            raise self.error(f"wrong number of args for {name}: want {fixed} got {given + piped}")

    def _argument(self, dot: Value, parameter: Parameter, node: Node) -> Value:
        self.node = node
        match node:
            case Field():
                return self._fit(self._fields(dot, dot, node.path, (), None), parameter)
            case Variable():
                return self._fit(self._variable(dot, node, (), None), parameter)
            case Dot():
                return self._fit(dot, parameter)
            case Pipe():
                return self._fit(self._parenthesized(dot, node), parameter)
            case Chain():
                return self._fit(self._chain(dot, node, (), None), parameter)
            case Identifier():
                return self._fit(self._function(dot, node, node, (), None), parameter)
            case Nil() if parameter is Parameter.STRING:
                raise self.error("cannot assign nil to string")
            case Nil():
                return NO_VALUE
        if parameter is Parameter.STRING and not isinstance(node, String):
            raise self.error(f"expected string; found {node}")
        return self._constant(node)

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


def _described(value: Value | None) -> str:
    """What Go's `Value.String` makes of a value."""
    assert value is not None  # the count of arguments was checked
    return str(value.data) if value.type is STRING else f"<{value.type.name} Value>"
