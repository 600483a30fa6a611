"""What a model is to be made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelfile.messages import StoredMessage
from registry.names import Digest, ModelName

FileMap = Mapping[str, Digest | Path]
"""Files: their names, with `/` between folders, and the blobs that they were uploaded as. A path is a file of this
machine that somebody at this machine named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A model to be made. None means that nothing was said, which an empty map is not.

    `base` is the model that it is derived from, `adapters` has the files of each adapter. With a base, `files` may add
    to it but not replace its weights. `parameters` and `info` are JSON as it came. Empty texts change nothing.
    """

    name: ModelName
    base: ModelName | None = None
    files: FileMap | None = None
    adapters: tuple[FileMap, ...] = ()
    drafts: FileMap | None = None
    quantize: str = ""
    draft_quantize: str = ""
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[StoredMessage, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
