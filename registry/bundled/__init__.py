"""Models that ship with the program, for machines without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.gguf import read_header
from registry.manifest import ModelConfig, config_of
from registry.names import ModelName


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model of one GGUF file, and another one with which it sees, if it does."""

    name: ModelName
    path: Path
    projector: Path | None = None

    def config(self) -> ModelConfig:
        """The model's config. Reads the file's header."""
        return config_of(read_header(self.path))


class BundledModels(Mapping[ModelName, BundledModel]):
    """Models by name, ignoring case."""

    def __init__(self, models: Iterable[BundledModel]) -> None:
        self._models = {model.name.folded: model for model in models}

    def __getitem__(self, name: ModelName) -> BundledModel:
        return self._models[name.folded]

    def __iter__(self) -> Iterator[ModelName]:
        return (model.name for model in self._models.values())

    def __len__(self) -> int:
        return len(self._models)


FOLDER = Path(__file__).parent
MODELS = BundledModels(
    [
        BundledModel(ModelName.parse("tinychat"), FOLDER / "tinychat.gguf"),
        BundledModel(ModelName.parse("sight"), FOLDER / "sight.gguf", FOLDER / "sight-mmproj.gguf"),
    ]
)
