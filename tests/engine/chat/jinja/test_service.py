"""Good, large and hostile templates in real processes, and what happens to others when one ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.api import Message, Tool, ToolCall
from engine.chat.jinja.adapt import definition
from engine.chat.jinja.limits import RenderLimits
from engine.chat.jinja.messages import CHATML, LARGEST, ChatTemplates
from engine.chat.jinja.service import TemplateService
from engine.chat.jinja.worker import TEMPLATES_KEPT, renderer_of
from engine.chat.prompt import RemoteRenderer, RenderError, TemplateOverBudget, render_prompt
from engine.errors import EngineError, EngineStopped
from tests.engine.chat.jinja.test_hostile_templates import DOUBLED, HOSTILE
from tests.processes import descendants

GOOD = ChatTemplates("{% for m in messages %}{{ m.content }}{% endfor %}")
COUNTS = "{% for i in range(messages[-1].content | int) %}{% set y = ('x ' * 2000) | wordcount %}{% endfor %}done"
"""Takes as long as the last message says: some 0.2 ms for each one of it."""

TOOL = Tool("f", type="function", parameters_type="object")


def processes() -> list[psutil.Process]:
    """All of this test's that have to do with templates, the one that forks first."""
    return descendants(os.getpid(), "engine.chat.jinja.worker")


def workers() -> list[psutil.Process]:
    return processes()[1:]


async def ask(templates: TemplateService, source: str | ChatTemplates, text: str = "Hi") -> str:
    """What a template makes of one message."""
    sources = ChatTemplates(source) if isinstance(source, str) else source
    return (await templates.render(sources, [Message("user", text)], [], None)).text


@asynccontextmanager
async def made(**limits: float) -> AsyncIterator[TemplateService]:
    templates = TemplateService(os.environ, RenderLimits(**limits))
    try:
        yield templates
    finally:
        await templates.close()
        assert not processes()


@pytest.fixture
async def templates() -> AsyncIterator[TemplateService]:
    async with made() as templates:
        yield templates


async def test_prompts_are_those_of_the_renderer(templates: TemplateService) -> None:
    sources = ChatTemplates(
        CHATML, "{{ bos_token }}{{ tools | tojson }}{{ messages | tojson }}{{ eos_token }}", "<s>", "</s>"
    )
    arguments: dict[str, Any] = {"b": 10**30, "a": [1, 1.0, None, True, "é\u2028"]}
    calls = (ToolCall("f", arguments, "call1", 1), ToolCall("f", {}, "call2"))
    results = [Message("tool", "x", tool_name="f", tool_call_id="call1"), Message("tool", "y", tool_call_id="call2")]
    seen = Message("user", "See", images=(b"1", b"2"))
    for messages in (
        [seen, Message("assistant", "Well", "Hm")],
        [seen, Message("assistant", tool_calls=calls), *results],
    ):
        for tools, think in (([], None), ([TOOL], "high"), ([TOOL], False)):
            expected = renderer_of(sources).render(messages, [definition(tool) for tool in tools], think)
            assert await templates.render(sources, messages, tools, think) == expected
    renderer = templates.renderer(sources)
    assert isinstance(renderer, RemoteRenderer)
    assert (await render_prompt(renderer, [seen], [], None)).images == (b"1", b"2")


async def test_what_templates_say_is_told(templates: TemplateService) -> None:
    with pytest.raises(RenderError, match=r"^roles must alternate$"):
        await ask(templates, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(RenderError, match=r"^chat template: unexpected 'end of template'$"):
        await ask(templates, "{{")
    with pytest.raises(RenderError, match=r"^chat template: it makes what is no text$"):
        await ask(templates, r"{{ '\ud800' }}")
    assert len(workers()) == 3


async def test_what_cannot_be_sent(templates: TemplateService) -> None:
    with pytest.raises(RenderError, match=r"^chat template: the conversation is no text: "):
        await ask(templates, GOOD, "\ud800")
    with pytest.raises(RenderError, match=r"^chat template: the conversation is too long$"):
        await ask(templates, GOOD, "x" * (LARGEST + 1))
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(RenderError, match=r"too deeply nested$"):
        await templates.render(GOOD, [Message("user", "Hi")], [Tool("f", items=deep)], None)


async def test_the_largest_conversation(templates: TemplateService) -> None:
    for text in ("x" * LARGEST, "é" * LARGEST, "😀" * (LARGEST // 2)):
        assert await ask(templates, GOOD, text) == text
        assert await ask(templates, GOOD) == "Hi"


@pytest.mark.parametrize("name", ["many texts", "many lists", "many wide texts", "lists in themselves"])
async def test_memory_is_bounded(name: str) -> None:
    async with made(first=5.0) as templates:
        assert await ask(templates, GOOD) == "Hi"
        before = psutil.Process().memory_info().rss
        with pytest.raises(TemplateOverBudget, match=r"^chat template: it takes too much memory$"):
            await ask(templates, HOSTILE[name])
        assert psutil.Process().memory_info().rss - before < 16 << 20
        assert await ask(templates, GOOD) == "Hi"
        with pytest.raises(RenderError, match=r"^chat template: it makes too much text$"):
            await ask(templates, HOSTILE["much output"])


async def test_a_hostile_template_is_remembered() -> None:
    async with made(quick=0.05, first=0.1) as templates:
        hostile = DOUBLED + "{{ n.l | tojson }}"
        with pytest.raises(TemplateOverBudget):
            await ask(templates, hostile)
        assert await ask(templates, GOOD) == "Hi"
        forked = templates._server._numbers.__reduce__()[1] if templates._server else None
        for number in range(100):
            with pytest.raises(TemplateOverBudget, match=r"^chat template: it takes too long$"):
                await ask(templates, hostile, f"Hi {number}")
        assert templates._server is not None
        assert templates._server._numbers.__reduce__()[1] == forked


async def test_many_hostile_templates_at_once_and_a_known_good_one() -> None:
    async with made(quick=0.05, first=0.1) as templates:
        assert await ask(templates, GOOD) == "Hi"
        hostile = [asyncio.create_task(ask(templates, f"{DOUBLED}{n}{{{{ n.l }}}}")) for n in range(12)]
        asked = 0
        while not all(task.done() for task in hostile):
            assert await ask(templates, GOOD) == "Hi"
            asked += 1
            await asyncio.sleep(0.005)
        assert all(isinstance(task.exception(), TemplateOverBudget) for task in hostile)
        assert asked > 12


async def test_no_template_takes_all_processes(templates: TemplateService) -> None:
    source = ChatTemplates(COUNTS)
    assert [await ask(templates, source, "1"), await ask(templates, GOOD)] == ["done", "Hi"]
    asked = [asyncio.create_task(ask(templates, source, "1000")) for _ in range(6)]
    while not all(task.done() for task in asked):
        await ask(templates, GOOD)
        taken = [process.job for process in templates._processes.values() if process.job and not process.slow]
        assert len(taken) <= 2
    assert {await task for task in asked} == {"done"}


async def test_a_giant_conversation_does_not_lock_out_its_template() -> None:
    async with made(quick=0.05, first=0.05, per_part=0.01) as templates:
        sources = ChatTemplates(COUNTS)
        assert await ask(templates, sources, "1") == "done"
        giant = [Message("user", "x" * 1000)] * 200 + [Message("user", "1000")]
        for _ in range(2):
            long = asyncio.create_task(templates.render(sources, giant, [], None))
            while not long.done():
                assert await ask(templates, sources, "1") == "done"
                await asyncio.wait([long], timeout=0.05)
            assert (await long).text == "done"
        with pytest.raises(TemplateOverBudget):
            await templates.render(sources, [*giant[:-1], Message("user", "99999")], [], None)
        assert await ask(templates, sources, "1") == "done"


async def test_what_is_rendered_when_a_process_is_killed_is_rendered_again(templates: TemplateService) -> None:
    assert await ask(templates, GOOD) == "Hi"
    asked = [asyncio.create_task(ask(templates, ChatTemplates(COUNTS), "1000")) for _ in range(3)]
    await asyncio.sleep(0.05)
    for worker in workers():
        worker.kill()
    assert await asyncio.gather(*asked) == ["done"] * 3
    assert await ask(templates, GOOD) == "Hi"


async def test_what_is_rendered_when_all_processes_are_killed_is_rendered_again(templates: TemplateService) -> None:
    for _ in range(2):
        asked = [asyncio.create_task(ask(templates, ChatTemplates(COUNTS), "1000")) for _ in range(3)]
        await asyncio.sleep(0.05)
        processes()[0].kill()
        assert await asyncio.gather(*asked) == ["done"] * 3
        processes()[0].kill()
        await asyncio.sleep(0.05)
        assert await ask(templates, GOOD) == "Hi"


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_processes_that_are_stopped_are_replaced(all_of_them: bool) -> None:
    async with made(quick=0.01, first=0.02, patience=2.0) as templates:
        assert await ask(templates, GOOD) == "Hi"
        for process in processes() if all_of_them else workers():
            process.send_signal(signal.SIGSTOP)
        assert await asyncio.gather(*(ask(templates, GOOD, str(n)) for n in range(5))) == list("01234")


async def test_a_process_that_has_grown_is_replaced(templates: TemplateService) -> None:
    assert await ask(templates, GOOD) == "Hi"
    before = set(workers())
    source = (
        "{% set l = [] %}{% for i in range(3) %}{% set _ = l.append('😀' * 8000000 ~ i) %}{% endfor %}{{ l | length }}"
    )
    assert await ask(templates, source) == "3"
    assert await ask(templates, GOOD) == "Hi"
    assert len(set(workers()) & before) == 2


async def test_templates_that_a_process_has_forgotten_are_sent_again(templates: TemplateService) -> None:
    sources = [ChatTemplates(f"{{{{ {n} }}}}") for n in range(TEMPLATES_KEPT + 3)]
    for _ in range(2):
        for number, each in enumerate(sources):
            assert await ask(templates, each) == str(number)


async def test_who_leaves_leaves_the_prompt_to_nobody(templates: TemplateService) -> None:
    leaving = [asyncio.create_task(ask(templates, ChatTemplates(COUNTS), "500")) for _ in range(4)]
    await asyncio.sleep(0.02)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert await ask(templates, GOOD) == "Hi"


async def test_processes_know_no_secrets_and_nothing_else_of_ours() -> None:
    templates = TemplateService(os.environ | {"PRONK_SECRET": "x", "HF_TOKEN": "y"})
    listening = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(listening, True)
    assert await ask(templates, GOOD) == "Hi"
    for process in processes():
        assert not {"PRONK_SECRET", "HF_TOKEN"} & set(process.environ())
        assert process.num_fds() <= 8
    os.close(listening)
    await templates.close()


async def test_what_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise ImportError")
    templates = TemplateService(os.environ | {"PYTHONPATH": str(tmp_path)})
    with pytest.raises(EngineError, match=r"^chat template renderer failed to start$"):
        await ask(templates, GOOD)
    await templates.close()


async def test_nothing_is_rendered_after_the_end(templates: TemplateService) -> None:
    await templates.close()
    templates.warm()
    with pytest.raises(EngineStopped):
        await ask(templates, GOOD)


async def test_the_end_ends_what_is_rendered(templates: TemplateService) -> None:
    asked = [asyncio.create_task(ask(templates, HOSTILE["shared printed"])) for _ in range(3)]
    await asyncio.sleep(0.1)
    await templates.close()
    for task in asked:
        with pytest.raises(EngineStopped):
            await task


async def test_the_end_while_the_processes_start(templates: TemplateService) -> None:
    templates.warm()
    await asyncio.sleep(0)
    await templates.close()
    assert not processes()
