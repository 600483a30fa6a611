"""How much a model is to think: `reasoning_effort`, and what other servers' clients send instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from engine.api import Think
from modelfile.text import cut, quote
from server.http.body import Body, mismatch

_EFFORTS: Mapping[str, Think | None] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
_HELP = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'


def parse_effort(value: Any) -> Think | None:
    """Off or a level; "" leaves it to the model. Raises ValueError."""
    if not isinstance(value, str):
        raise mismatch(value, "string")
    if value not in _EFFORTS:
        raise ValueError(f"invalid reasoning value: {quote(cut(value))} (must be {_HELP})")
    return _EFFORTS[value]


EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"]
Effort = Annotated[Think | None, PlainValidator(parse_effort, json_schema_input_type=EffortName | None)]


class Reasoning(Body):
    """`reasoning`: the effort, which counts before `reasoning_effort`; `summary` is only repeated in answers."""

    effort: Effort = None
    summary: str = ""


class TemplateOptions(Body):
    """`chat_template_kwargs` of vLLM: of a template's variables only the one that turns thinking off."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class ReasoningFields(Body):
    """The fields of a body that say how much the model is to think."""

    reasoning_effort: Effort = None
    reasoning: Reasoning = Field(default_factory=Reasoning)
    chat_template_kwargs: TemplateOptions = Field(default_factory=TemplateOptions)

    @property
    def asks_for_reasoning(self) -> bool:
        """Whether the body says, in the fields of OpenAI's API, how much to think."""
        return bool(self.model_fields_set & {"reasoning_effort", "reasoning"})

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        if field == "think":
            return "reasoning_effort" if self.reasoning.effort is None else "reasoning.effort"
        return super().name_of(field)

    @property
    def think(self) -> Think | None:
        """On, off or a level; None leaves it to the model."""
        effort = self.reasoning_effort if self.reasoning.effort is None else self.reasoning.effort
        switches = (self.chat_template_kwargs.enable_thinking, self.chat_template_kwargs.thinking)
        return False if effort is None and False in switches else effort
