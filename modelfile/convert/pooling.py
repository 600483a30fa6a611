"""How an embedding model makes one vector of the vectors of its tokens, as sentence-transformers writes it down."""

from __future__ import annotations

from typing import Any

from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata

_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
_SWITCHES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
_MODULES = "modules.json"


def pooling(files: Files) -> Metadata:
    """The key that says it, nothing without modules.json. Raises ConvertError for a way that the runner lacks."""
    folder = next((module.get("path") for module in _modules(files) if _is(module, "Pooling")), None)
    if folder is None:
        return {}
    settings = files.object(f"{folder}/config.json")
    mode = next((mode for switch, mode in _SWITCHES.items() if settings.get(switch)), settings.get("pooling_mode"))
    if not isinstance(mode, str) or mode not in _TYPES:
        raise ConvertError(f"{folder}/config.json: the pooling is neither mean nor cls nor lasttoken")
    return {"pooling_type": _TYPES[mode]}


def normalization(files: Files) -> Metadata:
    """The key that says whether vectors have length one: a module of its own would see to that. Raises ConvertError."""
    return {"normalize_embeddings": any(_is(module, "Normalize") for module in _modules(files))}


def _modules(files: Files) -> list[dict[str, Any]]:
    found = files.array(_MODULES) if _MODULES in files else []
    return [module for module in found if isinstance(module, dict)]


def _is(module: dict[str, Any], kind: str) -> bool:
    return str(module.get("type")).endswith(kind)
