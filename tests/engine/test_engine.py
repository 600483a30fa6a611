"""The façade on a real store, real processes and the bundled model."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bench.endless import make_endless
from engine.api import ChatRequest, Delta, Final, GenerateRequest, Message, PlanRequest, Rendered
from engine.engine import Engine
from engine.errors import (
    CapabilityMissing,
    CloudModel,
    ContextExceeded,
    EngineStopped,
    InvalidRequest,
    LoadFailed,
    ModelNotFound,
    ServerBusy,
)
from modelfile.conversation import Tool
from modelfile.gotemplate import TemplateSyntaxError
from modelfile.parameters import OptionError
from registry import bundled
from registry.logfields import REQUEST_ID
from registry.manifest import MODEL, SYSTEM, TEMPLATE, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.running import collect, gone, make_engine, running, unload_all
from tests.processes import descendants
from tests.serving import GREEDY
from tests.tools import tool_of

TINYCHAT = ModelName.parse("tinychat")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """An engine that all may ask."""
    async with running(tmp_path_factory.mktemp("shared") / "models") as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def own_engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine for one test, with nothing loaded and nothing but the bundled model stored; it uses all threads."""
    async with running(tmp_path / "models", environ=os.environ) as engine:
        yield engine


def store_model(store: Store, name: str, weights: bytes, **texts: str) -> None:
    """Store a model with these weights and layers of text."""
    base = store.find(TINYCHAT).manifest
    types = {"template": TEMPLATE, "system": SYSTEM}
    layers = [Layer(MODEL, *store.add_blob(weights))]
    layers += [Layer(types[kind], *store.add_blob(text.encode())) for kind, text in texts.items()]
    store.write_manifest(ModelName.parse(name), Manifest(base.config, tuple(layers)))


def other_weights(number: int) -> bytes:
    """The bundled weights under another digest."""
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    return data.replace(b"tinychat", f"tinycha{number}".encode(), 1)


def ask(prompt: str, model: str = "tinychat", **fields: Any) -> GenerateRequest:
    options = GREEDY | fields.pop("options", {})
    return GenerateRequest(model=model, prompt=prompt, options=options, **fields)


async def test_generate(engine: Engine) -> None:
    content, thinking, final = await collect(engine.generate(ask("Count to 5")))
    assert (content, thinking, final.done_reason) == ("1, 2, 3, 4, 5", "I will count from 1 to 5.\n", "stop")
    assert final.prompt_eval_count == 14
    assert final.context is not None
    assert len(final.context) == final.prompt_eval_count + final.eval_count - 1
    assert min(final.load_duration, final.prompt_eval_duration, final.eval_duration) > 0


async def test_log_probabilities_of_a_prompt_come_first(engine: Engine) -> None:
    fields: dict[str, Any] = {"raw": True, "logprobs": True, "prompt_logprobs": True, "options": {"num_predict": 2}}
    first, *rest, _ = [e async for e in engine.generate(ask("The cat sat", **fields))]
    assert isinstance(first, Delta)
    assert (first.content, b"".join(entry.data for entry in first.logprobs)) == ("", b"The cat sat")
    assert math.isnan(first.logprobs[0].logprob)
    assert sum(len(delta.logprobs) for delta in rest if isinstance(delta, Delta)) == 2
    tokens = await engine.generate(ask("", prompt_tokens=(300, 301), **fields)).__anext__()
    assert isinstance(tokens, Delta)
    assert len(tokens.logprobs) == 2
    with pytest.raises(InvalidRequest, match="prompt has 123456, which is no token"):
        await collect(engine.generate(ask("", prompt_tokens=(123456,), **fields)))


async def test_tokens_of_reasoning_are_counted(engine: Engine) -> None:
    for question in ("Count to 5", "Hello!"):
        for logprobs in (True, False):
            events = [e async for e in engine.generate(ask(question, logprobs=logprobs, options={"stop": ["5.\n<"]}))]
            final = events[-1]
            assert isinstance(final, Final)
            if logprobs:
                tokens = [entry.data for e in events if isinstance(e, Delta) for entry in e.logprobs]
                assert tokens[:2] == [b"<think>", b"\n"]
                end = tokens.index(b"</think>") if b"</think>" in tokens else len(tokens)
            assert final.thinking_count == end - 2
            assert final.stop_text == ("5.\n<" if question == "Count to 5" else "")


async def test_the_context_of_an_answer_continues_it(engine: Engine) -> None:
    first = (await collect(engine.generate(ask("My name is Grace.", think=False))))[2]
    content, _, final = await collect(engine.generate(ask("What is my name?", think=False, context=first.context)))
    assert content == "Your name is Grace."
    assert final.prompt_eval_count > len(first.context or ())


async def test_a_system_prompt_of_the_request_wins_over_the_models(engine: Engine) -> None:
    store_model(engine.store, "pirate", other_weights(1), system="Speak like a pirate.")
    asked = "What is the capital of Japan?"
    stored, _, _ = await collect(engine.generate(ask(asked, "pirate")))
    assert stored == "Arr! The capital of Japan is Tokyo. Yo ho ho!"
    own, _, _ = await collect(engine.generate(ask(asked, "pirate", system="You are tinychat.")))
    assert own == "The capital of Japan is Tokyo."


async def test_go_templates_are_used(tmp_path: Path) -> None:
    template = (
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    )
    async with running(tmp_path / "models", go_templates=True) as forced:
        store_model(forced.store, "go", other_weights(1), template=template)
        request = ChatRequest(model="go", messages=[Message("user", "Hi")])
        rendered = Rendered("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", token_count=9)
        assert await forced.render(request) == rendered


async def test_a_template_of_the_request(engine: Engine) -> None:
    request = ask("Hi", template="{{ .System }}|{{ .Prompt }}|", system="S")
    assert await engine.render(request) == Rendered("S|Hi|", token_count=4)
    with pytest.raises(TemplateSyntaxError, match=r"^template: :1: unclosed action$"):
        await collect(engine.generate(ask("Hi", template="{{ .Foo")))


async def test_tool_calls(engine: Engine) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Get the current weather for a city",
            "parameters": {
                "type": "object",
                "required": ["city"],
                "properties": {"city": {"type": "string", "description": "The name of the city"}},
            },
        },
    }
    messages = [Message("user", "What is the weather in Paris and London?")]
    request = ChatRequest(model="tinychat", messages=messages, tools=(tool_of(tool),), options=dict(GREEDY))
    calls = [call async for event in engine.chat(request) if isinstance(event, Delta) for call in event.tool_calls]
    assert [(call.name, call.arguments, call.index) for call in calls] == [
        ("get_current_weather", {"city": "Paris"}, 0),
        ("get_current_weather", {"city": "London"}, 1),
    ]


@pytest.mark.parametrize(
    ("begun", "thought"),
    [({"content": "1, 2, 3"}, ""), ({"content": "", "thinking": "I will"}, "I will count from 1 to 9.\n")],
)
async def test_an_answer_that_has_begun_goes_on(engine: Engine, begun: dict[str, str], thought: str) -> None:
    messages = [Message("user", "Count to 9"), Message("assistant", **begun)]
    request = ChatRequest(model="tinychat", messages=messages, options=dict(GREEDY))
    content, thinking, final = await collect(engine.chat(request))
    assert (content, thinking) == ("1, 2, 3, 4, 5, 6, 7, 8, 9", thought)
    assert final.done_reason == "stop"


async def test_unloading_stores_no_bundled_model_that_was_deleted(own_engine: Engine) -> None:
    own_engine.store.find(TINYCHAT)
    own_engine.store.delete(TINYCHAT)
    with pytest.raises(ModelNotFound):
        await own_engine.unload("tinychat")
    assert own_engine.store.list() == []


async def test_load_keep_alive_and_unload(engine: Engine) -> None:
    await unload_all(engine)
    await engine.load(GenerateRequest(model="tinychat", keep_alive=math.inf))
    (running,) = engine.running()
    assert (running.name, running.context_length) == (TINYCHAT.full, 1024)
    assert math.isinf(running.expires_at)
    # A request that does not say how long leaves it as it was.
    await collect(engine.generate(ask("Hello!")))
    assert math.isinf(engine.running()[0].expires_at)
    await engine.unload("tinychat")
    await gone(engine)


async def until_loaded(engine: Engine, *names: str) -> None:
    """Wait until just these are loaded."""
    async with asyncio.timeout(60):
        while {running.name for running in engine.running()} != {ModelName.parse(name).full for name in names}:
            await asyncio.to_thread(time.sleep, 0.01)


async def test_a_model_goes_with_its_last_name(own_engine: Engine) -> None:
    for name in ("one", "two"):
        store_model(own_engine.store, name, other_weights(1), system=name)
    await collect(own_engine.generate(ask("Count to 5", model="one", keep_alive=math.inf)))
    await collect(own_engine.generate(ask("Count to 5", keep_alive=math.inf)))
    own_engine.store.delete(ModelName.parse("one"))
    await collect(own_engine.generate(ask("Count to 5", model="two")))
    assert len(own_engine.running()) == 2, "another name leads to the same weights"
    story = own_engine.generate(ask("Write a long story.", model="two", options={"num_predict": 100}))
    await anext(story)
    store_model(own_engine.store, "two", other_weights(2))
    _, _, final = await collect(story)
    assert final.eval_count > 20, "what runs is not interrupted"
    await until_loaded(own_engine, "tinychat")


async def test_a_model_is_shown_under_a_name_that_it_still_has(own_engine: Engine) -> None:
    for name in ("one", "two", "three"):
        store_model(own_engine.store, name, other_weights(1), system=name)
    await own_engine.load(ask("", model="one", keep_alive=math.inf))
    for gone_name, left in (("one", "three"), ("three", "two")):
        await until_loaded(own_engine, gone_name)
        own_engine.store.delete(ModelName.parse(gone_name))
        await until_loaded(own_engine, left)
        assert own_engine.running()[0].digest == own_engine.store.find(ModelName.parse(left)).digest
    await own_engine.unload("two")
    await gone(own_engine)


async def test_the_name_last_asked_for_is_shown_and_the_others_beside_it(own_engine: Engine) -> None:
    for name in ("one", "two", "three"):
        store_model(own_engine.store, name, other_weights(1), system=name)
    for name in ("one", "two", "one"):
        await own_engine.load(ask("", model=name, keep_alive=math.inf))
    (running,) = own_engine.running()
    one, two = (ModelName.parse(name).full for name in ("one", "two"))
    assert (running.name, [name for name, _ in running.others]) == (one, [two]), "nobody asked for three"
    own_engine.store.delete(ModelName.parse("one"))
    await until_loaded(own_engine, "two")
    assert own_engine.running()[0].others == ()


async def test_a_plan_of_what_is_not_loaded_loads_nothing(own_engine: Engine) -> None:
    plan = await own_engine.plan(PlanRequest(model="tinychat"))
    assert (plan.loaded, plan.fits, plan.context_length, plan.evicts) == (False, True, 1024, ())
    assert own_engine.running() == []
    assert plan.size == sum(share.size for share in plan.devices)
    assert plan.layers == sum(share.layers for share in plan.devices) == 7
    small = await own_engine.plan(PlanRequest(model="tinychat", options={"num_ctx": 256}))
    assert (small.context_length, small.size < plan.size) == (256, True)
    with pytest.raises(ModelNotFound):
        await own_engine.plan(PlanRequest(model="nope"))
    with pytest.raises(OptionError):
        await own_engine.plan(PlanRequest(model="tinychat", options={"num_ctx": "long"}))


async def test_a_plan_of_what_is_loaded_is_what_it_takes(own_engine: Engine) -> None:
    await own_engine.load(ask("", keep_alive=math.inf))
    (running,) = own_engine.running()
    plan = await own_engine.plan(PlanRequest(model="tinychat"))
    assert (plan.loaded, plan.size, plan.devices) == (True, running.size, running.devices)
    (share,) = running.devices
    assert share.kind == "cpu"
    assert share.size == running.size
    assert 4 << 20 < share.weights < 5 << 20, "as llama.cpp has mapped it"


async def test_a_plan_names_who_would_go(tmp_path: Path) -> None:
    async with running(tmp_path / "models", max_loaded_models=1) as engine:
        store_model(engine.store, "other", other_weights(1))
        await engine.load(ask("", model="other", keep_alive=math.inf))
        assert (await engine.plan(PlanRequest(model="tinychat"))).evicts == ("other:latest",)
        assert [model.name for model in engine.running()] == [ModelName.parse("other").full], "it is still there"


async def test_a_model_that_is_being_loaded_is_told(own_engine: Engine) -> None:
    store_model(own_engine.store, "one", other_weights(1))
    load = asyncio.ensure_future(own_engine.load(ask("", model="one")))
    async with asyncio.timeout(60):
        while not own_engine.loading():  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0)
        (loading,) = own_engine.loading()
        assert (loading.name, loading.context_length) == ("one:latest", 1024)
        while loading.size is None:  # it is being planned
            await asyncio.sleep(0)
            (loading,) = own_engine.loading()
    assert loading.size > 4 << 20
    await load
    assert own_engine.loading() == []


async def test_a_name_that_goes_while_its_model_is_loaded(own_engine: Engine) -> None:
    for name in ("one", "two"):
        store_model(own_engine.store, name, other_weights(1), system=name)
    load = asyncio.ensure_future(own_engine.load(ask("", model="one", keep_alive=math.inf)))
    async with asyncio.timeout(60):
        while not own_engine._pool.keys():  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0)
    own_engine.store.delete(ModelName.parse("one"))
    await load
    await until_loaded(own_engine, "two")


async def test_a_model_goes_when_its_name_is_deleted_or_copied_over(own_engine: Engine) -> None:
    for number, name in enumerate(("one", "two")):
        store_model(own_engine.store, name, other_weights(number))
        await own_engine.load(ask("", model=name, keep_alive=math.inf))
    await asyncio.to_thread(own_engine.store.delete, ModelName.parse("one"))
    await until_loaded(own_engine, "two")
    await asyncio.to_thread(own_engine.store.copy, TINYCHAT, ModelName.parse("two"))
    await until_loaded(own_engine)


async def test_a_model_goes_when_its_time_is_over(engine: Engine) -> None:
    await unload_all(engine)
    await collect(engine.generate(ask("Hello!", keep_alive=0.2)))
    assert engine.running()
    await gone(engine)


async def test_keep_alive_zero_answers_first(engine: Engine) -> None:
    await unload_all(engine)
    content, _, _ = await collect(engine.generate(ask("Count to 5", keep_alive=0)))
    assert content == "1, 2, 3, 4, 5"
    await gone(engine)


async def test_load_options_go_with_their_request(own_engine: Engine, tmp_path: Path) -> None:
    """The file is mapped, and read when asked for; what is not named stays as it is, and loads nothing anew."""

    def mapped() -> bool:
        """Whether one of the children has the weights mapped."""
        children = descendants(os.getpid(), "engine.runner")
        return any(str(tmp_path) in entry.path for child in children for entry in child.memory_maps())

    for use_mmap, expected in ((None, True), (False, False), (None, False)):
        content, _, _ = await collect(own_engine.generate(ask("Count to 5", options={"use_mmap": use_mmap})))
        assert content == "1, 2, 3, 4, 5"
        assert mapped() is expected
    children = {child.pid for child in descendants(os.getpid(), "engine.runner")}
    for options in ({"num_thread": 512}, {"num_thread": 1}, {"num_batch": 1}, {"num_gpu": 3}, {"main_gpu": 1}, {}):
        content, _, _ = await collect(own_engine.generate(ask("Count to 5", options=options)))
        assert content == "1, 2, 3, 4, 5"
    assert children <= {child.pid for child in descendants(os.getpid(), "engine.runner")}


async def test_several_models_at_once(own_engine: Engine) -> None:
    for number in (1, 2):
        store_model(own_engine.store, f"other{number}", other_weights(number))
    names = ["tinychat", "other1", "other2"]
    answers = await asyncio.gather(*(collect(own_engine.generate(ask("Count to 5", name))) for name in names * 2))
    assert {content for content, _, _ in answers} == {"1, 2, 3, 4, 5"}
    assert len(own_engine.running()) == 3


async def test_more_models_than_may_be_loaded(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "models", max_loaded_models=1)
    await engine.start()
    for number in (1, 2):
        store_model(engine.store, f"other{number}", other_weights(number))
    names = ["tinychat", "other1", "other2"]
    answers = await asyncio.gather(*(collect(engine.generate(ask("Count to 5", name))) for name in names * 2))
    assert {content for content, _, _ in answers} == {"1, 2, 3, 4, 5"}
    assert len(engine.running()) <= 1
    await engine.stop()


async def test_a_full_queue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(tmp_path / "models", max_queue=0, max_loaded_models=1)
    await engine.start()
    store_model(engine.store, "other", other_weights(1))
    refused: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        if record.getMessage() == "request refused":
            refused.append(REQUEST_ID.get())
        return True

    async def answer(request_id: str, name: str) -> tuple[str, str, Final]:
        REQUEST_ID.set(request_id)
        return await collect(engine.generate(ask("Count to 5", name)))

    caplog.set_level(logging.DEBUG, "pronk.engine")
    logging.getLogger("pronk.engine").addFilter(note)
    try:
        requests = [answer(str(number), name) for number, name in enumerate(("tinychat", "other", "other"))]
        answers = await asyncio.gather(*requests, return_exceptions=True)
    finally:
        logging.getLogger("pronk.engine").removeFilter(note)
    busy = [str(number) for number, outcome in enumerate(answers) if isinstance(outcome, ServerBusy)]
    assert busy
    assert sorted(refused) == busy, "the log names those that were refused"
    assert sum(isinstance(outcome, tuple) for outcome in answers) >= 1
    await engine.stop()


async def test_a_load_that_nobody_waits_for_is_given_up(own_engine: Engine) -> None:
    task = asyncio.create_task(collect(own_engine.generate(ask("Count to 5"))))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    content, _, _ = await collect(own_engine.generate(ask("Count to 5")))
    assert content == "1, 2, 3, 4, 5"


async def test_weights_that_cannot_be_loaded(engine: Engine) -> None:
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    store_model(engine.store, "broken", data.replace(b"qwen3", b"qwenX"))
    with pytest.raises(LoadFailed, match=r"failed to load model.*ollama pull broken:latest") as caught:
        await collect(engine.generate(ask("Hi", "broken")))
    assert str(
        engine.store.blob_path(engine.store.find(ModelName.parse("broken")).manifest.layers[0].digest)
    ) not in str(caught.value)
    content, _, _ = await collect(engine.generate(ask("Count to 5")))
    assert content == "1, 2, 3, 4, 5"


async def test_over_long_prompts(engine: Engine) -> None:
    long = "Count to 30 and then tell me a long story. " * 30
    _, _, final = await collect(engine.generate(ask(long, options={"num_ctx": 128, "num_predict": 4})))
    assert final.prompt_eval_count == 66
    assert final.prompt_cut > 66
    with pytest.raises(ContextExceeded, match="exceeds the available context size"):
        await collect(engine.generate(ask(long, truncate=False, options={"num_ctx": 128})))
    request = ChatRequest(model="tinychat", messages=[Message("user", long)], options={"num_ctx": 128})
    with pytest.raises(ContextExceeded, match="exceeds the available context size"):
        await collect(engine.chat(request))


async def test_a_long_conversation_is_trimmed(engine: Engine) -> None:
    turns = [Message(role, f"{role} {n}") for n in range(40) for role in ("user", "assistant")]
    messages = [Message("system", "You are Alice."), *turns, Message("user", "Who are you?")]
    request = ChatRequest(model="tinychat", messages=messages, options={"num_ctx": 128}, think=False)
    prompt = (await engine.render(request)).prompt
    assert prompt.startswith("<|im_start|>system\nYou are Alice.<|im_end|>\n")
    assert "Who are you?" in prompt
    assert "user 0" not in prompt
    request.options["num_predict"] = 1
    _, _, final = await collect(engine.chat(request))
    assert final.prompt_left_out == 80 - prompt.count("<|im_start|>") + 3  # the three: system, question, answer's start
    whole = await engine.render(replace(request, truncate=False))
    assert final.prompt_cut == whole.token_count - final.prompt_eval_count


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"model": "nosuch"}, ModelNotFound, "model 'nosuch' not found"),
        ({"model": "big:cloud"}, CloudModel, "ollama cloud is disabled"),
        ({"model": "a:cloud:local"}, InvalidRequest, "use either :local or :cloud, not both"),
        ({"raw": True, "system": "x"}, InvalidRequest, "raw mode does not support template, system, or context"),
        ({"options": {"temperature": "hot"}}, OptionError, 'option "temperature" must be of type float32'),
        ({"format": '"xml"'}, InvalidRequest, r'^invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema'),
        ({"images": (b"x",)}, InvalidRequest, "Multimodal data provided"),
    ],
)
async def test_refusals(engine: Engine, fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await collect(engine.generate(ask("Hi", **fields)))


async def test_a_chat_without_messages_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match=r"^the conversation has no messages$"):
        await engine.render(ChatRequest(model="tinychat"))


async def test_what_a_model_cannot_do(engine: Engine) -> None:
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    plain = data.replace(b"think", b"thonk").replace(b"tool_call", b"tool-call").replace(b"tools", b"toals")
    store_model(engine.store, "plain", plain.replace(b"fim_pre_token_id", b"fim_prX_token_id"))
    with pytest.raises(InvalidRequest, match=r'^"plain" does not support thinking$'):
        await collect(engine.generate(ask("Hi", "plain", think=True)))
    with pytest.raises(CapabilityMissing, match=r"^registry.ollama.ai/library/plain:latest does not support insert$"):
        await collect(engine.generate(ask("Hi", "plain", suffix="x")))
    request = ChatRequest(model="plain", messages=[Message("user", "Hi")], tools=(Tool(type="function"),))
    with pytest.raises(CapabilityMissing, match=r"plain:latest does not support tools$"):
        await collect(engine.chat(request))


async def test_stopping_ends_what_runs(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "models")
    await engine.start()
    store_model(engine.store, "endless", make_endless(Path(bundled.__file__).parent / "tinychat.gguf"))
    events = engine.generate(ask("Write a long story.", "endless", raw=True, options={"num_predict": -1}))
    assert isinstance(await anext(events), Delta)
    stopping = asyncio.create_task(engine.stop())
    with pytest.raises(EngineStopped):
        async for _ in events:
            pass
    await stopping
    with pytest.raises(EngineStopped):
        await collect(engine.generate(ask("Hi")))
