"""What is wrong with a request can be said before anything is read or written. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from modelfile import gotemplate, parameters
from modelfile.create.errors import CreateError
from modelfile.create.info import read_info
from modelfile.create.request import CreateRequest
from modelfile.quantize import quantization


def check(request: CreateRequest) -> None:
    """Raise CreateError, QuantizeError, or OptionError for a parameter, if a model can never be made of this."""
    for files in (request.files, *request.adapters, request.drafts):
        check_names(files or ())
    if request.draft_quantize and request.drafts is None:
        raise CreateError("--draft-quantize requires a DRAFT model")
    if request.base is None and request.files is None:
        raise CreateError("neither 'from' or 'files' was specified")
    for kind in filter(None, (request.quantize, request.draft_quantize)):
        quantization(kind)
    _check_template(request.template)
    parameters.check(request.parameters)
    read_info(request.info)


def check_names(names: Iterable[str]) -> None:
    """Raise CreateError unless these are names of files inside one folder."""
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
