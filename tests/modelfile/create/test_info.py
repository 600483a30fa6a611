"""Facts that a request states."""

from typing import Any

import pytest

from modelfile.create.request import CreateError, Info, read_info


def test_what_is_known_is_read() -> None:
    given = {"capabilities": ["tools", 1], "base_name": "b", "context_length": 5.0, "unknown": []}
    assert read_info(given) == Info(capabilities=("tools", ""), base_name="b", context_length=5)
    assert read_info({"capabilities": "tools"}) == Info()


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("model_family", 1, "string"),
        ("base_name", None, "string"),
        ("context_length", "5", "number"),
        ("context_length", True, "number"),
        ("context_length", 1.5, "non-negative integer"),
        ("embedding_length", -1, "non-negative integer"),
        ("embedding_length", 1e300, "non-negative integer"),
    ],
)
def test_wrong_types(key: str, value: Any, kind: str) -> None:
    with pytest.raises(CreateError) as error:
        read_info({key: value})
    assert str(error.value) == f'info field "{key}" must be a {kind}'
