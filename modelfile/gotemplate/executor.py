"""Executes statements: text, actions, branches, loops and template calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from modelfile.gotemplate.evaluator import Evaluator
from modelfile.gotemplate.fmt_scalars import Directive
from modelfile.gotemplate.limits import Buffer
from modelfile.gotemplate.nodes import (
    Action,
    Body,
    Branch,
    Break,
    Call,
    Continue,
    If,
    Node,
    Pipe,
    Range,
    Text,
    With,
)
from modelfile.gotemplate.printf import show, write
from modelfile.gotemplate.values import INT, NO_VALUE, STRING, UINT8, MapType, SliceType, Value
from modelfile.text import quote

_TURN = 5  # steps
_CALL = 5  # steps
Turns = Iterable[tuple[Value, Value]]
"""(index, element) of each iteration."""


class _Break(Exception):
    """Leaves the innermost loop."""


class _Continue(Exception):
    """Ends the current iteration of the innermost loop."""


class Executor:
    """Executes one template body with one evaluator, once."""

    def __init__(self, bodies: Mapping[str, Body], evaluator: Evaluator, output: Buffer) -> None:
        self._bodies = bodies
        self._evaluator = evaluator
        self._output = output

    def run(self, body: Body, dot: Value) -> None:
        """Execute a body with `dot`. Raises TemplateExecError."""
        self._evaluator.budget.enter()
        try:
            for node in body:
                self._evaluator.node = node
                _EXECUTE[type(node)](self, node, dot)
        finally:
            self._evaluator.budget.leave()

    def _text(self, node: Text, dot: Value) -> None:
        self._output.write(node.text)

    def _action(self, node: Action, dot: Value) -> None:
        value = self._evaluator.pipeline(dot, node.pipe)
        if node.pipe.variables:
            return
        if value.type is STRING:
            self._output.write(value.data)
        elif value.valid:
            write(value if value.data is None else value.indirect(), Directive(), self._output)
        else:
            self._output.write("<no value>")

    def _branch(self, node: Branch, dot: Value) -> None:
        variables = self._evaluator.variables
        mark = variables.mark()
        try:
            value = self._evaluator.pipeline(dot, node.pipe)
            if value.truth:
                self.run(node.body, value if isinstance(node, With) else dot)
            elif node.otherwise is not None:
                self.run(node.otherwise, dot)
        finally:
            variables.drop(mark)

    def _range(self, node: Range, dot: Value) -> None:
        variables = self._evaluator.variables
        mark = variables.mark()
        turns = self._turns(node.pipe, self._evaluator.pipeline(dot, node.pipe).indirect())
        try:
            if not self._loop(node, turns) and node.otherwise is not None:
                self.run(node.otherwise, dot)
        finally:
            variables.drop(mark)

    def _loop(self, node: Range, turns: Turns) -> bool:
        """Run the loop; returns whether there was any iteration."""
        variables = self._evaluator.variables
        mark = variables.mark()
        turned = False
        try:
            for index, element in turns:
                turned = True
                self._evaluator.budget.spend(_TURN)
                self._set_variables(node.pipe, index, element)
                try:
                    self.run(node.body, element)
                except _Continue:
                    pass
                finally:
                    variables.drop(mark)
        except _Break:
            pass
        return turned

    def _turns(self, pipe: Pipe, value: Value) -> Turns:
        if value.type in (INT, UINT8):
            if len(pipe.variables) > 1:
                raise self._evaluator.error(f"can't use {value.data} to iterate over more than one variable")
            return ((NO_VALUE, Value(value.type, number)) for number in range(value.data))
        if isinstance(value.type, SliceType):
            element = value.type.element
            return ((Value(INT, place), Value(element, data)) for place, data in enumerate(value.data or ()))
        if isinstance(value.type, MapType):
            keys = value.type.keys(value.data, self._evaluator.budget)
            return ((Value(STRING, key), value.element(key)) for key in keys)
        if value.valid:
            raise self._evaluator.error(f"range can't iterate over {show(value, self._evaluator.budget)}")
        return ()

    def _set_variables(self, pipe: Pipe, index: Value, element: Value) -> None:
        """Set the loop's variables: one gets the element, two get index and element."""
        values = (index, element) if len(pipe.variables) > 1 else (element,)
        for place, (variable, value) in enumerate(zip(pipe.variables, values, strict=False)):
            if pipe.assigns:
                self._evaluator.assign(variable, value)
            else:
                self._evaluator.variables.newest(len(values) - place).value = value

    def _call(self, node: Call, dot: Value) -> None:
        body = self._bodies.get(node.name)
        if body is None:
            raise self._evaluator.error(f"template {quote(node.name)} not defined")
        self._evaluator.budget.spend(_CALL)
        argument = NO_VALUE if node.pipe is None else self._evaluator.pipeline(dot, node.pipe)
        inner = self._evaluator.inside(node.name, argument)
        Executor(self._bodies, inner, self._output).run(body, argument)

    def _break(self, node: Break, dot: Value) -> None:
        raise _Break

    def _continue(self, node: Continue, dot: Value) -> None:
        raise _Continue


_EXECUTE: dict[type[Node], Callable[..., None]] = {
    Text: Executor._text,
    Action: Executor._action,
    If: Executor._branch,
    With: Executor._branch,
    Range: Executor._range,
    Call: Executor._call,
    Break: Executor._break,
    Continue: Executor._continue,
}
