"""What a description of a layout consists of. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from registry.gguf import GGUFHeader
from registry.gguf.raw import Value

MetadataValue = Value | Callable[[GGUFHeader], Value | None]
"""A value, or how it is read off the published header; None leaves the metadata as they are."""


@dataclass(frozen=True, slots=True)
class AsF32:
    """The same numbers in 32 bits, if they are floats of 16."""


@dataclass(frozen=True, slots=True)
class PairedRows:
    """The rows of each attention head, whose halves are rotated together, in pairs; `heads` is the key of how many."""

    heads: str


Change = AsF32 | PairedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFRewrite:
    """How one file is made of a published one. Tensors are named by patterns of the published names.

    `architecture` is the new one, and the prefix that takes the old one's place where the metadata are kept. Then, by
    new keys: `moved` takes an entry of the published file, `defaults` says what is missing, `values` what is wrong.
    `vocabulary` names the tensor that has a row for each token: what is said of more tokens than that is left out.
    `shortened` are tensors of which as many rows are taken as another one has. `zeros` are further tensors, with the
    key of how many numbers they have.
    """

    architecture: str
    tensors: str = ""
    without_tensors: str = "(?!)"  # none
    renamed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Change] = field(default_factory=dict)
    shortened: Mapping[str, str] = field(default_factory=dict)
    zeros: Mapping[str, str] = field(default_factory=dict)
    keeps_metadata: bool = True
    without_keys: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, MetadataValue] = field(default_factory=dict)
    values: Mapping[str, MetadataValue] = field(default_factory=dict)
    vocabulary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaLayout:
    """A layout of published files. `matches` knows one by its header; `version` grows when what is made changes."""

    name: str
    version: int
    matches: Callable[[GGUFHeader], bool]
    text: GGUFRewrite
    projector: GGUFRewrite | None = None

    def forms(self, header: GGUFHeader) -> dict[str, GGUFRewrite]:
        """What is made of a file of this layout, by its name in the store; the language model last."""
        made: dict[str, GGUFRewrite] = {}
        if self.projector is not None and any(tensor.name.startswith("v.") for tensor in header.tensors):
            made["projector"] = self.projector
        made["text"] = self.text
        return {f"{self.name}-{self.version}-{part}": rewrite for part, rewrite in made.items()}
