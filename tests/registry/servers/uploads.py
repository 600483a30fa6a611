"""A registry in memory that takes uploads as Ollama's does: it wants the parts elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry.names import Digest
from tests.registry.servers.http import Answer, Request


@dataclass(slots=True)
class RedirectingRegistry:
    """Sends each part to a place of its own, and does not read it first. `storage` is that place's handler."""

    elsewhere: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    etags: list[str] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        """The answer to a request, which may not have been read to its end."""
        host = request.headers["host"]
        match request.method:
            case "HEAD":
                return Answer(200 if request.path.rpartition("/")[2] in self.blobs else 404)
            case "POST":
                self.parts = {}
                return Answer(202, headers={"docker-upload-location": f"http://{host}/upload/0", "location": "/wrong"})
            case "PATCH":
                first = int(request.headers["content-range"].partition("-")[0])
                return Answer(
                    307,
                    headers={
                        "docker-upload-location": f"http://{host}/upload/{first + 1}",
                        "location": f"http://{self.elsewhere}/{first}",
                    },
                )
            case _ if "manifests" in request.path:
                self.manifest = request.body
            case _:
                data = b"".join(data for _, data in sorted(self.parts.items()))
                query = dict(request.query)
                self.etags.append(query["etag"])
                if str(Digest.of(data)) != query["digest"]:
                    return Answer(400, b"digest mismatch")
                self.blobs[query["digest"]] = data
        return Answer(201)

    def storage(self, request: Request) -> Answer:
        """Where the parts go."""
        self.parts[int(request.path.removeprefix("/"))] = request.body
        return Answer(200)
