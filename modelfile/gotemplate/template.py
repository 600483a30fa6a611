"""A template: its source, and the trees that were parsed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.gotemplate.evaluator import Evaluator, MissingKey
from modelfile.gotemplate.executor import Executor
from modelfile.gotemplate.functions import FUNCTIONS
from modelfile.gotemplate.limits import Buffer
from modelfile.gotemplate.nodes import Body, names, pipes
from modelfile.gotemplate.parser import parse
from modelfile.gotemplate.values import value_of


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. Immutable: it may be executed by several threads at once."""

    source: str
    bodies: Mapping[str, Body]
    """By name; the template itself has the empty name, others were defined in it."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Read a template. Raises TemplateSyntaxError."""
        return cls(source, parse(source, FUNCTIONS))

    @property
    def root(self) -> Body:
        """The body of the template itself."""
        return self.bodies[""]

    def variables(self) -> tuple[str, ...]:
        """The names of all fields and variables, in lower case and sorted; those of definitions are among them."""
        places = (place for body in self.bodies.values() for place in pipes(body))
        return tuple(sorted({name.lower() for pipe, _, _ in places for node in names(pipe) for name in node.path}))

    def with_root(self, body: Body) -> Template:
        """The same definitions with another body for the template itself."""
        return Template(self.source, {**self.bodies, "": body})

    def write(self, data: Any, output: Buffer, missing_key: MissingKey = MissingKey.ZERO) -> None:
        """Append the text for `data` to `output`, which several executions may share.

        `data` is JSON as Python decodes it, a `Value`, or a mapping of these. Raises TemplateExecError, and
        TemplateLimitError if the template wants more than the output's limits allow.
        """
        dot = value_of(data)
        evaluator = Evaluator("", self.source, dot, output.budget, missing_key)
        Executor(self.bodies, evaluator, output).run(self.root, dot)
