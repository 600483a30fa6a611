"""The CNCF's registry behind a network on which everything goes wrong now and then."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import CorruptDownload
from registry.names import ModelName
from registry.remote.auth import Authority
from registry.remote.push import push
from registry.storage.partials import Division
from registry.storage.store import Store
from tests.registry.pulling import collect, policy, pull, statuses
from tests.registry.servers.cncf import CNCFRegistry, cncf_registry
from tests.registry.servers.http import Answer, Handler, Request, serving
from tests.registry.servers.token import forward
from tests.registry.stores import add_model, check_whole, names

DATA = random.Random(1).randbytes(600_000)
EIGHTHS = Division(count=8, smallest=1, largest=1 << 30)


@pytest.fixture(scope="module")
def cncf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CNCFRegistry]:
    with cncf_registry(tmp_path_factory.mktemp("cncf")) as registry:
        yield registry


def faulty(behind: Handler, draw: random.Random, *, corrupt: bool) -> Handler:
    """Passes blobs on and does something bad to every other one."""

    async def handler(request: Request) -> Answer:
        answer = behind(request)
        answer = answer if isinstance(answer, Answer) else await answer
        if request.range is None:
            return answer
        match draw.choice(["cut", "stall", "busy", "lie", "whole", "bit" if corrupt else "", "", "", "", ""]):
            case "cut":
                answer.cut = draw.randrange(len(answer.body))
            case "stall":
                answer.stall = draw.randrange(len(answer.body))
            case "busy":
                return Answer(503)
            case "lie":
                answer.headers["content-range"] = "bytes 1-2/3"
            case "whole" if len(answer.body) > 100:
                return Answer(body=DATA)
            case "bit":
                place = draw.randrange(len(answer.body))
                answer.body = answer.body[:place] + bytes([answer.body[place] ^ 1]) + answer.body[place + 1 :]
        return answer

    return handler


@pytest.mark.parametrize("seed", range(3))
async def test_it_arrives_all_the_same(tmp_path: Path, cncf: CNCFRegistry, seed: int) -> None:
    store = Store(tmp_path / "models")
    draw = random.Random(seed)
    async with serving(forward(cncf.host)) as server:
        name = f"{server.host}/lib/m{seed}"
        model = add_model(store, name, DATA)
        await collect(push(store, model.name, Authority(tmp_path), policy(), insecure=True))
        store.delete(model.name)
        server.handler = faulty(server.handler, draw, corrupt=False)
        assert statuses(await pull(store, name, division=EIGHTHS, stall=1.0))[-1] == "success"
    check_whole(tmp_path / "models")


async def test_a_flipped_bit_never_counts(tmp_path: Path, cncf: CNCFRegistry) -> None:
    store = Store(tmp_path / "models")
    async with serving(forward(cncf.host)) as server:
        name = f"{server.host}/lib/flipped"
        model = add_model(store, name, DATA)
        await collect(push(store, model.name, Authority(tmp_path), policy(), insecure=True))
        store.delete(model.name)
        honest, server.handler = server.handler, faulty(server.handler, random.Random(1), corrupt=True)
        refused = 0
        for _ in range(6):
            try:
                await pull(store, name, division=EIGHTHS, stall=1.0)
                store.delete(model.name)
            except CorruptDownload:
                refused += 1
            check_whole(tmp_path / "models")
        assert refused > 0
        server.handler = honest
        await pull(store, name)
    assert names(store) == [ModelName.parse(name).full]
    check_whole(tmp_path / "models")
