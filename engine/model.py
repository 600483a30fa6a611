"""Finds stored models by name and reads what running them takes: files, parameters, templates, capabilities."""

from __future__ import annotations

import logging
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from engine.api import Message
from engine.capabilities import all_capabilities
from engine.chat.route import PromptRoute, choose_route
from engine.errors import ModelNotFound
from engine.names import local_name
from modelfile.messages import StoredMessage
from modelfile.parameters import usable
from modelfile.published import OllamaLayout, Unloadable, layout_of
from registry import blob_json
from registry import manifest as media_types
from registry.gguf import GGUFArray, GGUFError, GGUFHeader, read_header
from registry.logfields import fields
from registry.manifest import Manifest, ManifestError, ModelConfig
from registry.names import ModelName
from registry.storage.store import ModelMissing, Store, StoredModel

MAX_TEXT = 16 << 20  # bytes of a text layer
SPECIAL_TOKENS = ("bos", "eos", "fim_pre", "fim_suf", "fim_mid")
NO_HEADER = GGUFHeader(version=3, metadata={}, tensors=(), data_offset=0)
CACHE_SIZE = 32 << 20  # bytes of cached models, and as many of cached headers
NAMES = 1024  # as users type them, whose weights are remembered
K = TypeVar("K")
V = TypeVar("V")
log = logging.getLogger("pronk.engine")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A stored model with all its small parts read. Immutable; may be used from any thread.

    `template` is the Go template layer, None if there is none; `messages` come before those of every chat. `identity`
    is the inode and size of the weights. If they are missing, `weights` is no file and the header is empty: such a
    model is listed but cannot run.
    """

    name: ModelName
    digest: str
    modified_at: int
    config: ModelConfig
    parent_model: str
    weights: Path
    header: GGUFHeader
    identity: tuple[int, int] | None = None
    projectors: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    drafts: tuple[Path, ...] = ()
    template: str | None = None
    system: str = ""
    license: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    go_templates: bool | None = None
    parameters: dict[str, Any]

    @property
    def is_current(self) -> bool:
        """Whether the weights are still the file that was read."""
        return self.header is not NO_HEADER and self.identity == _identity(self.weights)

    @property
    def chat_template(self) -> str:
        """The Jinja template in the GGUF file, "" if there is none."""
        return self._text("tokenizer.chat_template")

    @property
    def tool_template(self) -> str:
        """The file's second Jinja template, for requests with tools (`tool_use`); "" if there is none."""
        return self._text("tokenizer.chat_template.tool_use")

    @property
    def rerank_template(self) -> str:
        """The file's template that joins a query and a document (`rerank`); "" if there is none."""
        return self._text("tokenizer.chat_template.rerank")

    @property
    def context_length(self) -> int:
        """The context that the model was trained for, in tokens; 0 if neither config nor file say."""
        return self.config.context_length or self.header.size("context_length")

    @cached_property
    def route(self) -> PromptRoute:
        """How its prompts are written and its answers read. Reads the vocabulary. Raises TemplateSyntaxError."""
        return choose_route(
            self.name.model,
            self.config,
            self.template,
            self.chat_template,
            self.special_tokens,
            self.go_templates,
            self.tool_template,
        )

    @cached_property
    def layout(self) -> OllamaLayout | Unloadable | None:
        """None if llama.cpp can load the file as it is, else its layout. May read the vocabulary once."""
        return layout_of(self.header)

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What it can do, in the API's names (`engine.capabilities`)."""
        own = all_capabilities(self.config, self.header, self._projector_headers, self.route.traits)
        return own | self.route.parser_capabilities

    @property
    def generates(self) -> bool:
        """Whether it answers prompts; a model that does not is for embeddings."""
        return "completion" in self.capabilities

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The texts of the special tokens (`bos`, `eos`, `fim_pre`, …). Reads the vocabulary the first time."""
        metadata = self.header.metadata
        values = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in SPECIAL_TOKENS}
        ids = {key: value for key, value in values.items() if isinstance(value, int)}
        tokens = metadata.get("tokenizer.ggml.tokens")
        texts = tokens.texts_at(ids.values()) if isinstance(tokens, GGUFArray) else {}
        return {key: texts[token] for key, token in ids.items() if token in texts}

    def _text(self, key: str) -> str:
        value = self.header.metadata.get(key)
        return value if isinstance(value, str) else ""

    @property
    def memory(self) -> int:
        """About how many bytes this object takes in memory."""
        texts = (self.template or "", self.system, *self.license, *(message.content for message in self.messages))
        return self.header.memory + sum(map(len, texts))

    @cached_property
    def _projector_headers(self) -> list[GGUFHeader]:
        return [read_header(path) for path in self.projectors if path.is_file()]


class _LRUCache(Generic[K, V]):
    """LRU cache of `limit` bytes, or what `put` counts; a larger value evicts all others. For any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: V, size: int) -> None:
        with self._lock:
            self._size += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self._size > self._limit and len(self._values) > 1:
                self._size -= self._values.popitem(last=False)[1][1]


class Models:
    """Finds models by the names that users type. Blocking; may be used from any thread.

    Manifests and weights are immutable, so models are cached by (name, digest) and headers by file. `go_templates`
    prefers (True) or forbids (False) stored Go templates where the file has a chat template too.
    """

    def __init__(self, store: Store, go_templates: bool | None = None) -> None:
        self.store = store
        self._go_templates = go_templates
        self._read: _LRUCache[tuple[ModelName, str], Model] = _LRUCache(CACHE_SIZE)
        self._headers: _LRUCache[tuple[Path, int, int], GGUFHeader] = _LRUCache(CACHE_SIZE)
        self._last: _LRUCache[str, Path] = _LRUCache(NAMES)

    def last_weights(self, name: str) -> Path | None:
        """The weights to which a name led when it was last resolved; None if that was never or long ago.

        Does not block.
        """
        return self._last.get(name)

    def resolve(self, name: str, *, install: bool = True) -> Model:
        """The model under a name; `install` stores a bundled model that is not stored yet.

        Raises InvalidName, ModelNotFound, CloudModel, InvalidRequest, ManifestError, StoreError or GGUFError.
        """
        parsed = ModelName.parse(local_name(name))
        try:
            stored = self.store.find(parsed, install=install)
        except ModelMissing:
            raise ModelNotFound(name) from None
        key = (stored.name, stored.digest)
        model = self._read.get(key)
        if model is None or model.modified_at != stored.modified_at or not model.is_current:
            model = self.read(stored)
            for fault in usable(model.parameters)[1]:
                log.warning("stored parameter not usable", extra=fields(model=model.name.shortest, reason=fault))
            self._read.put(key, model, model.memory)
        self._last.put(name, model.weights, 1)
        return model

    def read(self, stored: StoredModel) -> Model:
        """Read a stored model without the cache of models. Raises ManifestError, StoreError or GGUFError."""
        manifest = stored.manifest
        config = ModelConfig.decode(self.store.read_blob(manifest.config.digest, media_types.MAX_BYTES))
        weights = manifest.of_type(media_types.MODEL)
        path = self.store.blob_path(weights[-1].digest) if weights else Path()
        try:
            header = self._header(path)
        except GGUFError as error:
            raise GGUFError(f"cannot read the file of model '{stored.name.shortest}': {error}") from None
        return Model(
            name=stored.name,
            digest=stored.digest,
            modified_at=stored.modified_at,
            config=config,
            parent_model=weights[-1].from_ if weights else "",
            weights=path,
            identity=_identity(path),
            header=header,
            projectors=self._paths(manifest, media_types.PROJECTOR),
            adapters=self._paths(manifest, media_types.ADAPTER),
            drafts=self._paths(manifest, media_types.DRAFT),
            template=next(iter(reversed(self._texts(manifest, media_types.PROMPT, media_types.TEMPLATE))), None),
            system=(self._texts(manifest, media_types.SYSTEM) or [""])[-1],
            license=tuple(self._texts(manifest, media_types.LICENSE)),
            messages=tuple(self._messages(manifest)),
            parameters=self._parameters(manifest),
            go_templates=self._go_templates,
        )

    def _header(self, path: Path) -> GGUFHeader:
        if (identity := _identity(path)) is None:
            return NO_HEADER
        key = (path, *identity)
        header = self._headers.get(key)
        if header is None:
            header = read_header(path)
            self._headers.put(key, header, header.memory)
        return header

    def _paths(self, manifest: Manifest, kind: str) -> tuple[Path, ...]:
        return tuple(self.store.blob_path(layer.digest) for layer in manifest.of_type(kind))

    def _texts(self, manifest: Manifest, *types: str) -> list[str]:
        layers = (layer for type_ in types for layer in manifest.of_type(type_))
        blobs = (self.store.read_blob(layer.digest, MAX_TEXT) for layer in layers)
        return [blob.decode("utf-8", "replace") for blob in blobs]

    def _parameters(self, manifest: Manifest) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        for text in self._texts(manifest, media_types.PARAMS):
            parameters |= _decode(text, dict[str, Any], "parameters")
        return parameters

    def _messages(self, manifest: Manifest) -> list[Message]:
        texts = self._texts(manifest, media_types.MESSAGES)
        return [stored.message() for text in texts for stored in _decode(text, list[StoredMessage], "messages")]


def _identity(path: Path) -> tuple[int, int] | None:
    """(inode, size) of a regular file, which differ if it is replaced; else None."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _decode(text: str, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(blob_json.without_lone_surrogates(text.encode()), type=kind)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"invalid {what}: {error}") from None
