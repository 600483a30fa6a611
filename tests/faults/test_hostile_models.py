"""Models whose chat templates want all the time or memory there is can be made and shown, and others go on."""

from __future__ import annotations

import asyncio

import httpx
import psutil

from tests.engine.chat.jinja.test_hostile_templates import DOUBLED, HOSTILE
from tests.faults.test_broken_models import create, post
from tests.modelfile.create.models import TINYCHAT
from tests.registry.gguf.files import STRING, edited, text, uint32
from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served

HI = {"messages": [{"role": "user", "content": "Hi"}], "stream": False, "options": GREEDY | {"num_predict": 2}}
MODELS = {
    "time": DOUBLED + "{{ n.l | tojson }}",
    "memory": HOSTILE["many wide texts"],
    "calls": HOSTILE["two of itself"],
    "compiler": HOSTILE["statements"],
}


async def test_a_hostile_model_costs_its_own_requests_an_error(server: Served) -> None:
    for name, source in MODELS.items():
        entry = uint32(STRING) + text(source)
        assert create(server, name, edited(TINYCHAT, {"tokenizer.chat_template": entry})).status_code == 200
        assert post(server, "/api/show", model=name).status_code == 200
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:

        async def ask(model: str) -> httpx.Response:
            return await client.post("/api/chat", json={"model": model, **HI})

        assert (await ask("tinychat")).status_code == 200
        before = psutil.Process(server.process.pid).memory_info().rss
        hostile = [asyncio.create_task(ask(model)) for model in (*MODELS, *MODELS)]
        while not all(task.done() for task in hostile):
            assert (await ask("tinychat")).status_code == 200
        for answer in await asyncio.gather(*hostile):
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("chat template: it takes too ")
        generated = await client.post("/api/generate", json={"model": "time", "prompt": "Hi"})
        assert generated.status_code == 400
        assert (await client.get("/api/tags")).status_code == 200
    assert psutil.Process(server.process.pid).memory_info().rss - before < 64 << 20
