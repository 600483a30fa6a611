"""The refusals of the embedding endpoints, in the order in which they are found."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("embed", {}, 404, "model '' not found"),
        ("embed", {"model": "foo:"}, 400, "invalid model name"),
        ("embed", {"model": "zz", "input": [1]}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": {}}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": "x"}, 404, 'model "zz" not found, try pulling it first'),
        ("embed", {"model": "tinychat", "input": ["x"]}, 501, "/api/embed is not supported yet"),
        ("embeddings", {}, 400, "model is required"),
        ("embeddings", {"model": "foo:"}, 400, "invalid model name"),
        ("embeddings", {"model": "zz"}, 404, 'model "zz" not found, try pulling it first'),
        ("embeddings", {"model": "tinychat"}, 501, "/api/embeddings is not supported yet"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, path: str, body: object, status: int, message: str) -> None:
    answer = await client.post(f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})
