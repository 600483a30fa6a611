"""What a Modelfile asks for: its commands, sorted by what they do to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from modelfile.conversation import Message
from modelfile.literals import DEPRECATED, add_parameter
from modelfile.parameters import OptionError
from modelfile.parser import Command, Keyword, ModelfileError

_NUMBER = r"(?:0|[1-9][0-9]*)"
_WORD = r"[0-9A-Za-z-]+"
_PRERELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PATCH = rf"\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+{_WORD}(?:\.{_WORD})*)?"
_SEMVER = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}(?:{_PATCH})?)?")


@dataclass(slots=True)
class ModelSpec:
    """The commands of a Modelfile by kind, in their order. Of a text that a model has once, the last counts.

    `parameters` holds JSON values as they are stored; `deprecated` the names of parameters that nobody reads any more.
    """

    sources: list[str] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    licenses: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    deprecated: list[str] = field(default_factory=list)


def model_spec(commands: Iterable[Command]) -> ModelSpec:
    """Sort commands. Raises ModelfileError for the first parameter or version that is no good."""
    found = ModelSpec()
    for command in commands:
        _add(found, command)
    return found


def _add(found: ModelSpec, command: Command) -> None:
    value = command.value
    match command.keyword:
        case Keyword.FROM:
            found.sources.append(value)
        case Keyword.ADAPTER:
            found.adapters.append(value)
        case Keyword.DRAFT:
            found.drafts.append(value)
        case Keyword.LICENSE:
            found.licenses.append(value)
        case Keyword.MESSAGE:
            found.messages.append(Message(command.name, value))
        case Keyword.PARAMETER:
            _add_parameter(found, command.name, value)
        case Keyword.REQUIRES:
            found.requires = _version(value)
        case Keyword.TEMPLATE | Keyword.SYSTEM | Keyword.RENDERER | Keyword.PARSER:
            setattr(found, command.keyword.lower(), value)


def _add_parameter(found: ModelSpec, name: str, text: str) -> None:
    if name in DEPRECATED:
        found.deprecated.append(name)
        return
    try:
        add_parameter(found.parameters, name, text)
    except OptionError as error:
        raise ModelfileError(str(error)) from error


def _version(text: str) -> str:
    version = text.removeprefix("v")
    if not _SEMVER.fullmatch(version):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return version
