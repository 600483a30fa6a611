"""The commands of a Modelfile, sorted by kind."""

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
    """The commands of a Modelfile by kind, in order. Of a single text, such as the template, the last one wins.

    `parameters` holds JSON values as stored; `deprecated` names ignored parameters.
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
    """Sort commands by kind. Raises ModelfileError for an invalid parameter or version."""
    spec = ModelSpec()
    for command in commands:
        _add(spec, command)
    return spec


def _add(spec: ModelSpec, command: Command) -> None:
    value = command.value
    match command.keyword:
        case Keyword.FROM:
            spec.sources.append(value)
        case Keyword.ADAPTER:
            spec.adapters.append(value)
        case Keyword.DRAFT:
            spec.drafts.append(value)
        case Keyword.LICENSE:
            spec.licenses.append(value)
        case Keyword.MESSAGE:
            spec.messages.append(Message(command.name, value))
        case Keyword.PARAMETER:
            _add_parameter(spec, command.name, value)
        case Keyword.REQUIRES:
            spec.requires = _version(value)
        case Keyword.TEMPLATE | Keyword.SYSTEM | Keyword.RENDERER | Keyword.PARSER:
            setattr(spec, command.keyword.lower(), value)


def _add_parameter(spec: ModelSpec, name: str, text: str) -> None:
    if name in DEPRECATED:
        spec.deprecated.append(name)
        return
    try:
        add_parameter(spec.parameters, name, text)
    except OptionError as error:
        raise ModelfileError(str(error)) from error


def _version(text: str) -> str:
    version = text.removeprefix("v")
    if not _SEMVER.fullmatch(version):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return version
