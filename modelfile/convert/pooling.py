"""How an embedding model makes one vector of the vectors of its tokens, as sentence-transformers writes it down."""

from __future__ import annotations

from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata

_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
_SWITCHES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}


def pooling(files: Files) -> Metadata:
    """The key that says it, nothing without modules.json. Raises ConvertError for a way that the runner lacks."""
    if "modules.json" not in files:
        return {}
    modules = [module for module in files.array("modules.json") if isinstance(module, dict)]
    folder = next((module.get("path") for module in modules if str(module.get("type")).endswith("Pooling")), None)
    if folder is None:
        return {}
    settings = files.object(f"{folder}/config.json")
    mode = next((mode for switch, mode in _SWITCHES.items() if settings.get(switch)), settings.get("pooling_mode"))
    if not isinstance(mode, str) or mode not in _TYPES:
        raise ConvertError(f"{folder}/config.json: the pooling is neither mean nor cls nor lasttoken")
    return {"pooling_type": _TYPES[mode]}
