"""Checks of a request before anything is read or written, with bounds far above real models. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any, Final

from modelfile import gotemplate, parameters
from modelfile.create.layers import encode_messages, encode_parameters
from modelfile.create.request import CreateError, CreateRequest, read_info
from modelfile.quantize import quantization

MOST_FILES: Final = 1024
MOST_LICENSES: Final = 64
MOST_MESSAGES: Final = 4096
MOST_CAPABILITIES: Final = 64
MOST_KEYS: Final = 1024
"""Parameters, and keys of `info`."""
LONGEST_WORD: Final = 4 << 10
"""Bytes of a single word, such as the name of a renderer."""
LONGEST_TEXT: Final = 16 << 20
"""Bytes of the system prompt, of all licenses, and of all messages: the engine reads no larger layer."""
LONGEST_PARAMETERS: Final = 1 << 20


def check(request: CreateRequest) -> None:
    """Raise CreateError, QuantizeError or OptionError for a request that can never succeed."""
    _check_sizes(request)
    for files in (request.files, *request.adapters, request.drafts):
        check_names(files or ())
    if request.draft_quantize and request.drafts is None:
        raise CreateError("--draft-quantize requires a DRAFT model")
    if request.base is None and request.files is None:
        raise CreateError("neither 'from' or 'files' was specified")
    for kind in filter(None, (request.quantize, request.draft_quantize)):
        quantization(kind)
    _check_template(request.template)
    parameters.check_types(request.parameters)
    _check_parameters(request.parameters)
    read_info(request.info)


def _check_sizes(request: CreateRequest) -> None:
    for files in (request.files, *request.adapters, request.drafts):
        _at_most(MOST_FILES, files or (), "files")
    _at_most(MOST_LICENSES, request.licenses, "licenses")
    _at_most(MOST_MESSAGES, request.messages, "messages")
    _at_most(MOST_KEYS, request.parameters, "parameters")
    _at_most(MOST_KEYS, request.info, "keys of info")
    _no_longer(LONGEST_TEXT, [request.system], "system prompt")
    _no_longer(LONGEST_TEXT, request.licenses, "licenses")
    words = {"renderer": request.renderer, "parser": request.parser, "requires": request.requires}
    for name, word in words.items():
        _no_longer(LONGEST_WORD, [word], name)
    value = request.info.get("capabilities")
    capabilities = value if isinstance(value, list) else []
    _at_most(MOST_CAPABILITIES, capabilities, "capabilities")
    _no_longer(LONGEST_WORD, map(str, capabilities), "capabilities")
    for name, value in request.info.items():
        _no_longer(LONGEST_WORD, [value] if isinstance(value, str) else (), f"info {name[:40]}")
    if request.messages:
        _no_longer_bytes(LONGEST_TEXT, encode_messages(request.messages), "messages")


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    if parameters:
        _no_longer_bytes(LONGEST_PARAMETERS, encode_parameters(parameters), "parameters")


def _at_most(most: int, items: Sized, what: str) -> None:
    if len(items) > most:
        raise CreateError(f"too many {what}: {len(items)}, at most {most} are accepted")


def _no_longer(longest: int, texts: Iterable[str], what: str) -> None:
    """Raise CreateError for texts with more bytes in all."""
    size = 0
    for text in texts:
        size += len(text.encode("utf-8", "surrogatepass"))
        if size > longest:
            raise CreateError(f"{what} too long: at most {longest} bytes are accepted")


def _no_longer_bytes(longest: int, data: bytes, what: str) -> None:
    if len(data) > longest:
        raise CreateError(f"{what} too long: at most {longest} bytes are accepted")


def check_names(names: Iterable[str]) -> None:
    """Raise CreateError for a file name that leads out of its folder."""
    if not all(name == "." or _is_local(name) for name in names):
        raise CreateError("file path must be relative")


def _is_local(name: str) -> bool:
    return not {"", ".", ".."} & set(name.split("/"))


def _check_template(source: str) -> None:
    if source:
        try:
            gotemplate.ChatTemplate.parse(source)
        except gotemplate.TemplateError as error:
            raise CreateError(f"template error: {error}") from None
