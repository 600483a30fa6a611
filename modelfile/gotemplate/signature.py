"""How functions look to the evaluator: what they take, how they fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from modelfile.gotemplate.values import Value


class FunctionError(ValueError):
    """A function cannot do what it was asked; becomes `error calling NAME: …`."""


class Parameter(Enum):
    """The type of a parameter, by its name in Go."""

    VALUE = "reflect.Value"
    """Anything, as it is stored: nil in an interface is not the same as no value."""
    ANY = "interface {}"
    """Anything, as what it is."""
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Function:
    """A function: `run` takes the budget and the arguments, and may raise FunctionError."""

    run: Callable[..., Value]
    fixed: tuple[Parameter, ...] = ()
    rest: Parameter | None = None
    """The type of any number of further arguments."""
    stops_at: bool | None = None
    """The truth of an argument that ends the evaluation: it is the result, those behind it are not evaluated."""
    shows_callee: bool = False
    """The source of the first argument is passed in front of it."""

    def parameter(self, place: int) -> Parameter:
        """The type of the argument at this place."""
        if place < len(self.fixed) or self.rest is None:
            return self.fixed[place]
        return self.rest
