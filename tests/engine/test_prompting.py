"""What is checked and settled of a request before a process has the model."""

from pathlib import Path
from typing import Any

import pytest

from engine.api import ChatRequest
from engine.model import Models
from engine.prompting import check_request
from registry.storage.store import Store


@pytest.mark.parametrize(
    ("options", "penalty"), [({}, 1.0), ({"repeat_penalty": 1.3}, 1.3), ({"repeat_penalty": None}, 1.0)]
)
def test_a_requests_defaults_count_last(tmp_path: Path, options: dict[str, Any], penalty: float) -> None:
    model = Models(Store(tmp_path)).resolve("tinychat", install=True)
    assert "repeat_penalty" not in model.parameters
    request = ChatRequest(model="tinychat", options=options, defaults={"repeat_penalty": 1.0, "num_ctx": 64})
    job = check_request(model, request, 4096, 0)
    assert (job.options.repeat_penalty, job.options.num_ctx) == (penalty, 64)
