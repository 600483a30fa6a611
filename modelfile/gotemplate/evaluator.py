"""Evaluates expressions (pipelines), with errors that name the place."""

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
from modelfile.gotemplate.scope import Scope
from modelfile.gotemplate.strings import byte_length
from modelfile.gotemplate.values import (
    ANY,
    NO_VALUE,
    STRING,
    Function,
    FunctionError,
    MapType,
    ParameterKind,
    PointerType,
    StructType,
    Value,
    string,
)
from modelfile.text import quote

_LONGEST_ERROR = 8192  # characters; quoted values and sources may be much longer


class CallArguments(NamedTuple):
    """A command's explicit arguments, and the piped result of the command before."""

    arguments: tuple[Node, ...]
    final: Value | None


NO_ARGUMENTS = CallArguments((), None)


class MissingKey(Enum):
    """The value of a missing key of a map (Go's option `missingkey`)."""

    ZERO = "zero"
    """The element type's zero value: nil in a map of interfaces, whose fields are an error."""
    INVALID = "default"
    """No value, whose fields are no value, too."""


class Evaluator:
    """Evaluates the expressions of one template body, with its variables. `dot` is the value of `.`"""

    def __init__(self, name: str, source: str, dot: Value, budget: Budget, missing_key: MissingKey) -> None:
        self.variables: Scope[Value] = Scope(dot)
        self.budget = budget
        self.node: Node | None = None
        """The node being evaluated, for errors."""
        self._name = name
        self._source = source
        self._missing_key = missing_key

    def inside(self, name: str, dot: Value) -> Evaluator:
        """The evaluator for a template called from this one, with variables of its own."""
        return Evaluator(name, self._source, dot, self.budget, self._missing_key)

    def error(self, why: str) -> TemplateExecError:
        """An error at the current node."""
        assert self.node is not None  # nothing fails before something is evaluated
        before = self._source[: self.node.at]
        line, start = before.count("\n") + 1, before.rfind("\n") + 1
        place = f":{line}:{byte_length(before[start:])}"
        message = f"template: {place}: executing {quote(self._name)} at <{self.node}>: {why}"
        return TemplateExecError(message if len(message) <= _LONGEST_ERROR else f"{message[:_LONGEST_ERROR]}...")

    def pipeline(self, dot: Value, pipe: Pipe) -> Value:
        """Evaluate a pipeline and set its variables. The value is never an interface. Raises TemplateExecError."""
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
        """Set an existing variable. Raises TemplateExecError."""
        cell = self.variables.find(variable.path[0])
        if cell is None:
            raise self.error(f"undefined variable: {variable.path[0]}")
        cell.value = value

    def _command(self, dot: Value, command: Command, final: Value | None) -> Value:
        head, arguments = command.head, command.arguments
        self.budget.spend(2 + len(arguments))
        args = NO_ARGUMENTS if final is None and not arguments else CallArguments(arguments, final)
        if isinstance(head, Nil):
            self.node = head
            self._refuse(head, args)
            raise self.error("nil is not a command")
        return self._operand(dot, head, args, command)

    def _operand(self, dot: Value, node: Node, args: CallArguments, call: Node) -> Value:
        """The value of anything but nil; errors of functions name the node `call`."""
        match node:
            case Field():
                self.node = node
                return self._fields(dot, dot, node.path, args)
            case Identifier():
                self.node = node
                return self._function(dot, node.name, args, call)
            case Variable():
                self.node = node
                return self._variable(dot, node, args)
            case Pipe():
                self._refuse(node, args)
                return self._parenthesized(dot, node)
            case Chain():
                self.node = node
                receiver = self._argument(dot, node.operand, ParameterKind.VALUE)
                return self._fields(dot, receiver, node.path, args)
        self.node = node
        self._refuse(node, args)
        return self._constant(node) if isinstance(node, Literal) else dot

    def _constant(self, literal: Literal) -> Value:
        if literal.constant is None:
            raise self.error(f"{literal} overflows int")
        return literal.constant

    def _refuse(self, head: Node, args: CallArguments) -> None:
        """Raise TemplateExecError for arguments of something that is no function."""
        if args is not NO_ARGUMENTS:
            raise self.error(f"can't give argument to non-function {head}")

    def _parenthesized(self, dot: Value, pipe: Pipe) -> Value:
        self.budget.enter(PARENTHESES)
        value = self.pipeline(dot, pipe)
        self.budget.leave(PARENTHESES)
        return value

    def _variable(self, dot: Value, variable: Variable, args: CallArguments) -> Value:
        cell = self.variables.find(variable.path[0])
        if cell is None:
            raise self.error(f"undefined variable: {variable.path[0]}")
        if len(variable.path) > 1:
            return self._fields(dot, cell.value, variable.path[1:], args)
        self._refuse(variable, args)
        return cell.value

    def _fields(self, dot: Value, receiver: Value, path: tuple[str, ...], args: CallArguments) -> Value:
        """`.A.B.C` of a value; only the last one may be a method with arguments."""
        for name in path[:-1]:
            self.budget.spend()
            receiver = self._field(dot, receiver, name, NO_ARGUMENTS)
        return self._field(dot, receiver, path[-1], args)

    def _field(self, dot: Value, receiver: Value, name: str, args: CallArguments) -> Value:
        if not receiver.valid:
            return NO_VALUE
        target = receiver.indirect()
        if target.dead_end and target.type is ANY:
            raise self.error(f"nil pointer evaluating {receiver.type.name}.{name}")
        if (method := target.type.methods.get(name)) is not None:
            return self._call(dot, Function(lambda budget: method(target, budget)), name, args)
        value = self._member(receiver, target, name)
        if args is not NO_ARGUMENTS:
            why = "is not a method but has arguments"
            if isinstance(target.type, StructType):
                why = "has arguments but cannot be invoked as function"
            raise self.error(f"{name} {why}")
        return value

    def _member(self, receiver: Value, target: Value, name: str) -> Value:
        """A struct's field or a map's element."""
        if isinstance(target.type, MapType):
            if self._missing_key is MissingKey.INVALID and name not in (target.data or {}):
                return NO_VALUE
            return target.element(name)
        if isinstance(target.type, StructType) and (member := target.type.member(name)) is not None:
            return member.of(target.data)
        if isinstance(target.type, PointerType):
            raise self.error(f"nil pointer evaluating {receiver.type.name}.{name}")
        raise self.error(f"can't evaluate field {name} in type {receiver.type.name}")

    def _function(self, dot: Value, name: str, args: CallArguments, call: Node) -> Value:
        try:
            return self._call(dot, FUNCTIONS[name], name, args)
        except FunctionError as error:
            self.node = call
            raise self.error(f"error calling {name}: {error}") from None

    def _call(self, dot: Value, function: Function, name: str, args: CallArguments) -> Value:
        """Call a function. Raises FunctionError if the function does."""
        self._check_count(function, name, args)
        values: list[Value] = []
        stops_at = function.stops_at
        for argument in args.arguments:
            value = self._argument(dot, argument, function.parameter(len(values)))
            if stops_at is not None and value.truth is stops_at:
                return value
            values.append(value)
        if args.final is not None:
            values.append(self._fit(args.final, function.parameter(len(values))))
        if function.shows_callee:
            values.insert(0, string(str(args.arguments[0]) if args.arguments else _described(values[0])))
        return function.run(self.budget, *values)

    def _check_count(self, function: Function, name: str, args: CallArguments) -> None:
        count, fixed = len(args.arguments), len(function.fixed)
        piped = args.final is not None
        if function.rest is not None and count + piped < fixed:
            raise self.error(f"wrong number of args for {name}: want at least {fixed} got {count}")
        if function.rest is None and count + piped != fixed:
            raise self.error(f"wrong number of args for {name}: want {fixed} got {count + piped}")

    def _argument(self, dot: Value, node: Node, parameter: ParameterKind) -> Value:
        self.node = node
        if isinstance(node, Literal):
            if parameter is ParameterKind.STRING and not isinstance(node, String):
                raise self.error(f"expected string; found {node}")
            return self._constant(node)
        if isinstance(node, Nil):
            if parameter is ParameterKind.STRING:
                raise self.error("cannot assign nil to string")
            return NO_VALUE
        value = self._operand(dot, node, NO_ARGUMENTS, node)
        return value if parameter is ParameterKind.VALUE else self._fit(value, parameter)

    def _fit(self, value: Value, parameter: ParameterKind) -> Value:
        """A value as the parameter's type."""
        if parameter is ParameterKind.VALUE:
            return value
        held = value.held()
        if parameter is ParameterKind.ANY or held.type is STRING:
            return held
        if not value.valid:
            raise self.error("invalid value; expected string")
        shown = held if held.valid else value
        raise self.error(f"wrong type for value; expected string; got {shown.type.name}")


def _described(value: Value) -> str:
    """A value as Go's `Value.String` shows it."""
    return str(value.data) if value.type is STRING else f"<{value.type.name} Value>"
