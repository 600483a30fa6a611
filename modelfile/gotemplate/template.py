"""A parsed template."""

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
    """A parsed template. Immutable and thread-safe."""

    source: str
    bodies: Mapping[str, Body]
    """By name; the template itself has the empty name."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Parse a template. Raises TemplateSyntaxError."""
        return cls(source, parse(source, FUNCTIONS))

    @property
    def root(self) -> Body:
        """The body of the template itself."""
        return self.bodies[""]

    def variables(self) -> tuple[str, ...]:
        """The names of all fields and variables, also of nested definitions, lower case and sorted."""
        places = (place for body in self.bodies.values() for place in pipes(body))
        return tuple(sorted({name.lower() for pipe, _, _ in places for node in names(pipe) for name in node.path}))

    def with_root(self, body: Body) -> Template:
        """The template with another root body."""
        return Template(self.source, {**self.bodies, "": body})

    def write(self, data: Any, output: Buffer, missing_key: MissingKey = MissingKey.ZERO) -> None:
        """Execute on `data` (decoded JSON, a `Value`, or a mapping of these) and append to `output`.

        Several executions may share an output. Raises TemplateExecError, or TemplateLimitError at its limits.
        """
        dot = value_of(data)
        evaluator = Evaluator("", self.source, dot, output.budget, missing_key)
        Executor(self.bodies, evaluator, output).run(self.root, dot)
