"""A hub like Hugging Face's: a list of files with their digests, and their bytes, the large ones from elsewhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from registry.names import Digest
from tests.registry.servers.http import Answer, Request
from tests.registry.servers.registry import ranged

LARGE = 1000
"""Bytes from which on a file is kept elsewhere."""


@dataclass(slots=True)
class Hub:
    """One repository. With a token, only who shows it gets in; `elsewhere` is the host of the large files."""

    repository: str
    files: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    gated: bool = False
    elsewhere: str = ""
    page: int = 2
    """Files that are listed at a time."""

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        if request.path.startswith("/elsewhere/"):
            return ranged(request, self.files[unquote(request.path.removeprefix("/elsewhere/"))])
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, b'{"error":"Invalid username or password."}', {"x-error-code": "RepoNotFound"})
        if self.gated:
            return Answer(403, b'{"error":"Ask for access."}', {"x-error-code": "GatedRepo"})
        if request.path == f"/api/models/{self.repository}/tree/main":
            return self._list(request)
        path = unquote(request.path).removeprefix(f"/{self.repository}/resolve/main/")
        if path not in self.files:
            return Answer(404, b"{}", {"x-error-code": "RepoNotFound"})
        if len(self.files[path]) < LARGE:
            return ranged(request, self.files[path])
        return Answer(302, headers={"location": f"http://{self.elsewhere}/elsewhere/{path}?sign=1"})

    def _list(self, request: Request) -> Answer:
        start = int(dict(request.query).get("cursor", 0))
        paths = sorted(self.files)
        shown = [{"type": "directory", "oid": "0" * 40, "path": "folder"}] if start == 0 else []
        shown += [_entry(path, self.files[path]) for path in paths[start : start + self.page]]
        following = f"http://{request.headers['host']}{request.path}?cursor={start + self.page}"
        headers = {"link": f'<{following}>; rel="next"'} if start + self.page < len(paths) else {}
        return Answer(body=json.dumps(shown).encode(), headers={"content-type": "application/json", **headers})


def _entry(path: str, data: bytes) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "file",
        "oid": hashlib.sha1(data).hexdigest(),
        "size": len(data),
        "path": path,
    }
    if len(data) >= LARGE:
        found["lfs"] = {"oid": Digest.of(data).hex, "size": len(data), "pointerSize": 134}
    return found
