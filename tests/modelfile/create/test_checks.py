"""What is refused before anything is written: requests that ask for more than any model has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelfile.conversation import Message
from modelfile.create import CreateError, References, with_modelfile
from modelfile.create.checks import (
    LONGEST_PARAMETERS,
    LONGEST_TEXT,
    LONGEST_WORD,
    MOST_CAPABILITIES,
    MOST_FILES,
    MOST_KEYS,
    MOST_LICENSES,
    MOST_MESSAGES,
    check,
)
from modelfile.create.request import CreateRequest
from registry.manifest import MAX_LAYERS
from registry.names import Digest, ModelName
from registry.storage.store import Store
from tests.modelfile.create.models import make
from tests.registry.stores import blobs, name, names

REQUEST = CreateRequest(name=ModelName.parse("m"), base=ModelName.parse("tinychat"))
MESSAGE = Message("user", "x")


def file_map(count: int) -> dict[str, Digest]:
    return dict.fromkeys(map(str, range(count)), Digest.of(b""))


def words(count: int) -> dict[str, str]:
    return dict.fromkeys(map(str, range(count)), "x")


@pytest.mark.parametrize(
    ("given", "most", "more"),
    [
        ("licenses", ("x",) * MOST_LICENSES, ("",) * (MOST_LICENSES + 1)),
        ("licenses", ("x" * (LONGEST_TEXT // 2),) * 2, ("x" * (LONGEST_TEXT // 2),) * 2 + ("x",)),
        ("messages", (MESSAGE,) * MOST_MESSAGES, (MESSAGE,) * (MOST_MESSAGES + 1)),
        ("messages", (), (Message("user", "x" * LONGEST_TEXT),)),
        ("system", "x" * LONGEST_TEXT, "é" * (LONGEST_TEXT // 2) + "x"),
        ("renderer", "x" * LONGEST_WORD, "x" * (LONGEST_WORD + 1)),
        ("requires", "x" * LONGEST_WORD, "x" * (LONGEST_WORD + 1)),
        ("files", file_map(MOST_FILES), file_map(MOST_FILES + 1)),
        ("adapters", (file_map(MOST_FILES),), (file_map(MOST_FILES + 1),)),
        ("drafts", file_map(MOST_FILES), file_map(MOST_FILES + 1)),
        ("parameters", {"unknown": "x"}, {"unknown": "x" * LONGEST_PARAMETERS}),
        ("parameters", words(MOST_KEYS), words(MOST_KEYS + 1)),
        ("info", words(MOST_KEYS), words(MOST_KEYS + 1)),
        ("info", {"capabilities": ["x"] * MOST_CAPABILITIES}, {"capabilities": ["x"] * (MOST_CAPABILITIES + 1)}),
        ("info", {"capabilities": 1}, {"capabilities": ["x" * (LONGEST_WORD + 1)]}),
        ("info", {"model_family": "x" * LONGEST_WORD}, {"model_family": "x" * (LONGEST_WORD + 1)}),
    ],
)
def test_bounds(given: str, most: Any, more: Any) -> None:
    check(replace(REQUEST, **{given: most}))
    with pytest.raises(CreateError, match=r"too (many|long).* at most \d+( bytes)? are accepted"):
        check(replace(REQUEST, **{given: more}))


@pytest.mark.parametrize(
    "text", ["FROM tinychat\n" + "LICENSE x\n" * (1 << 19), "FROM tinychat\n" * 257, "FROM x\n" + "ADAPTER ./a\n" * 256]
)
def test_bounds_of_a_modelfile(text: str, tmp_path: Path) -> None:
    with pytest.raises(CreateError, match="at most"):
        with_modelfile(CreateRequest(name=name("m")), text, References(Store(tmp_path), ()))


async def test_nothing_is_written_of_too_many_licenses(store: Store, root: Path) -> None:
    with pytest.raises(CreateError, match="too many licenses: 100000"):
        await make(store, "m", base=name("tinychat"), licenses=("x",) * 100_000)
    assert blobs(root) == set()


async def test_licenses_add_up(store: Store, root: Path) -> None:
    await make(store, "m", base=name("tinychat"))
    before = blobs(root)
    with pytest.raises(CreateError, match=f"too many layers: .* at most {MAX_LAYERS} are accepted"):  # noqa: PT012
        for start in range(0, 2 * MAX_LAYERS, MOST_LICENSES):
            licenses = tuple(str(number) for number in range(start, start + MOST_LICENSES))
            await make(store, "m", base=name("m"), licenses=licenses)
    assert len(blobs(root) - before) < MAX_LAYERS
    assert names(store) == ["m:latest", "tinychat:latest"]
