"""Model names and digests as parsed types.

Every path below the models directory is made of these two. Neither can hold a separator or a leading dot, so any
instance is safe as a path.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# A host becomes a directory name, which file systems limit to 255 bytes.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_DIGEST = re.compile(r"sha256[:-]([0-9A-Fa-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")


class InvalidName(ValueError):
    """Not a model name; `str()` is the text."""


class InvalidDigest(ValueError):
    """Not a digest; `str()` is the text."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """`host/namespace/model:tag`, every part valid. Equality is by case; `folded` is the key that ignores case.

    `scheme` is the text before `://`, for pulls; it is not part of the name. Raises InvalidName for invalid parts.
    """

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        patterns = ((_HOST, self.host), (_NAMESPACE, self.namespace), (_PART, self.model), (_PART, self.tag))
        if not all(pattern.fullmatch(part) for pattern, part in patterns):
            raise InvalidName(self.full)

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Parse a name; missing parts get their defaults. Raises InvalidName."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "", text
        elif not _SCHEME.fullmatch(scheme) or rest.count("/") != 2:
            raise InvalidName(text)
        path, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            path, tag = rest, DEFAULT_TAG
        parts = path.split("/")
        if len(parts) > 3:
            raise InvalidName(text)
        host, namespace, model = [DEFAULT_HOST, DEFAULT_NAMESPACE][: 3 - len(parts)] + parts
        return cls(host, namespace, model, tag, scheme)

    @property
    def full(self) -> str:
        """All four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def shortest(self) -> str:
        """The display name: without the default host, then without the default namespace."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """The four parts from the host on: the path of a manifest."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def folded(self) -> tuple[str, ...]:
        """The parts in lower case. The store never holds two names with the same `folded`."""
        return tuple(part.lower() for part in self.parts)


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 as 64 lower-case hexadecimal digits. Raises InvalidDigest for anything else."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex):
            raise InvalidDigest(self.hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `sha256:HEX` or `sha256-HEX`, in either case. Raises InvalidDigest."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidDigest(text)
        return cls(match[1].lower())

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of these bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def filename(self) -> str:
        """The file name of the blob."""
        return f"sha256-{self.hex}"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
