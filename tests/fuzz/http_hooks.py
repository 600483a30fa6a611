"""What schemathesis is told of this server: bodies that reach a model, and what no answer may hold. Loaded by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import schemathesis

_ROOT = str(Path(__file__).resolve().parents[2])
_STORE = os.environ.get("PRONK_FUZZ_STORE", "")
_NEVER = ("Traceback (most recent call last)", "site-packages", _ROOT, sys.prefix, _STORE)
_RUNS = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show", "/v1/embeddings")
_TYPED = ("through the proxy",)  # what Ollama answers with 500 too


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Three of four bodies name a model that is there, and ask for a short answer."""
    if context.operation.path in _RUNS and isinstance(body, dict) and len(repr(body)) % 4:
        options = body.get("options", {})
        short = {**options, "num_predict": 4} if isinstance(options, dict) else options
        return {**body, "model": "tinychat", "options": short}
    return body


@schemathesis.check
def fails_in_words(context: Any, response: Any, case: Any) -> None:
    """No defect and nothing of the machine in an answer; errors are in the shape of their API."""
    text = response.text or ""
    assert "internal server error" not in text, "a defect"
    if response.status_code == 500:
        assert any(words in text for words in _TYPED), f"a 500: {text[:300]}"
    if response.status_code >= 400:
        leaked = [words for words in _NEVER if words and words in text]
        assert not leaked, f"an answer tells {leaked}"
        assert '"detail"' not in text, "an error of FastAPI's"
