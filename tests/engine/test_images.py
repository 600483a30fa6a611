"""Images in requests: where they stand in prompts, and what is said where no model can see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engine.api import ChatRequest, GenerateRequest, Message
from engine.engine import Engine
from engine.errors import EngineError, InvalidRequest
from registry.manifest import CONFIG, TEMPLATE, Layer, ModelConfig
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.running import running
from tests.seen import tone, wav

ASKED = Message("user", "Compare", images=(b"0", b"1"))
CHAT = ChatRequest(model="tinychat", messages=[ASKED])
GENERATE = GenerateRequest(model="tinychat", prompt="Compare", images=(b"0", b"1"))
GO = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with running(tmp_path / "models", go_templates=True) as engine:
        yield engine


def store_variant(store: Store, name: str, **config: object) -> None:
    """Store tinychat under another name, with a Go template and other fields of its config."""
    manifest = store.find(ModelName.parse("tinychat")).manifest
    changed = msgspec.structs.replace(ModelConfig.decode(store.read_blob(manifest.config.digest, 1 << 20)), **config)
    layers = (*manifest.layers, Layer(TEMPLATE, *store.add_blob(GO.encode())))
    written = replace(manifest, config=Layer(CONFIG, *store.add_blob(changed.encode())), layers=layers)
    store.write_manifest(ModelName.parse(name), written)


async def answer(engine: Engine, request: GenerateRequest | ChatRequest) -> object:
    """All events of an answer."""
    events = engine.chat(request) if isinstance(request, ChatRequest) else engine.generate(request)
    return [event async for event in events]


async def prompt(engine: Engine, request: GenerateRequest | ChatRequest) -> tuple[str, int]:
    """The prompt that would be run, and how many images go with it."""
    rendered = await engine.render(request)
    return rendered.prompt, rendered.image_count


async def test_prompts_of_a_chat_template(engine: Engine) -> None:
    assert "user\nCompare[img-0][img-1] /think<|im_end|>" in (await prompt(engine, CHAT))[0]
    assert "user\n[img-0][img-1]Compare /think<|im_end|>" in (await prompt(engine, GENERATE))[0]
    assert (await prompt(engine, CHAT))[1] == (await prompt(engine, GENERATE))[1] == 2


async def test_prompts_of_a_go_template(engine: Engine) -> None:
    store_variant(engine.store, "go")
    expected = ("user: [img-0][img-1]Compare\n", 2)
    assert await prompt(engine, replace(CHAT, model="go")) == expected
    assert await prompt(engine, replace(GENERATE, model="go")) == expected
    own = "{{ .Prompt }}: [img-1] and [img-0]"
    assert await prompt(engine, replace(GENERATE, template=own)) == ("Compare: [img-1] and [img-0]", 2)


async def test_a_raw_prompt_has_its_tags_already(engine: Engine) -> None:
    raw = replace(GENERATE, raw=True, prompt="a [img-0] b [img-1]")
    assert await prompt(engine, raw) == ("a [img-0] b [img-1]", 2)


async def test_images_of_messages_that_were_left_out_are_left_out(engine: Engine) -> None:
    long = Message("user", "word " * 400, images=(b"9",))
    text, count = await prompt(
        engine, replace(CHAT, messages=[long, Message("assistant", "x"), ASKED], options={"num_ctx": 256})
    )
    assert "Compare[img-0][img-1]" in text
    assert count == 2


async def test_a_model_that_cannot_see(engine: Engine) -> None:
    store_variant(engine.store, "go")
    for request in (GENERATE, replace(GENERATE, raw=True), replace(CHAT, model="go")):
        with pytest.raises(InvalidRequest, match=r"^Multimodal data provided, but model does not support"):
            await answer(engine, request)
    with pytest.raises(InvalidRequest, match=r"^image input is not supported - hint"):
        await answer(engine, CHAT)
    for sound in (wav(tone(0.1, 440)), b"ID3", b"\xff\xfb", b"fLaC"):
        with pytest.raises(InvalidRequest, match=r"^audio input is not supported - hint"):
            await answer(engine, replace(CHAT, messages=[replace(ASKED, images=(sound, b"0"))]))


async def test_a_model_that_could_see(engine: Engine) -> None:
    store_variant(engine.store, "eyes", capabilities=("vision",))
    for request in (GENERATE, CHAT):
        with pytest.raises(InvalidRequest, match=r"^the vision part of this model cannot be run yet$"):
            await answer(engine, replace(request, model="eyes"))
    store_variant(engine.store, "ears", capabilities=("audio",))
    sound = replace(CHAT, model="ears", messages=[replace(ASKED, images=(wav(tone(0.1, 440)),))])
    with pytest.raises(InvalidRequest, match=r"^the audio part of this model cannot be run yet$"):
        await answer(engine, sound)


async def test_a_family_with_one_eye(engine: Engine) -> None:
    store_variant(engine.store, "one", model_family="mllama")
    with pytest.raises(InvalidRequest, match=r"^this model only supports one image while more than one image"):
        await prompt(engine, replace(GENERATE, model="one"))
    with pytest.raises(EngineError, match=r"^this model only supports one image while more than one image"):
        await prompt(engine, replace(CHAT, model="one"))
    single = replace(CHAT, model="one", messages=[replace(ASKED, images=(b"0",))])
    assert await prompt(engine, single) == ("user: [img-0]Compare\n", 1)
