"""Tokens through the façade, on the bundled model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine import tokenization
from engine.api import ChatRequest, DetokenizeRequest, GenerateRequest, Message, TokenizeRequest
from engine.engine import Engine
from engine.errors import InvalidRequest, ModelNotFound
from modelfile.parameters import OptionError
from tests.engine.berts import tiny_bert
from tests.engine.running import collect, gone, running, unload_all
from tests.engine.test_engine import store_model

TEXTS = ["", "Hello there", "<|im_start|>user\nHi<|im_end|>", "naïve 日本 🦙👩‍🚀", "a\0b\r\n\t  ", "�"]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with running(tmp_path_factory.mktemp("shared") / "models") as engine:
        yield engine


async def tokens(engine: Engine, text: str, **fields: Any) -> list[int]:
    return (await engine.tokenize(TokenizeRequest(model="tinychat", text=text, **fields))).tokens


async def text(engine: Engine, tokens: list[int]) -> str:
    return (await engine.detokenize(DetokenizeRequest(model="tinychat", tokens=tokens))).text


async def test_texts_come_back_from_their_tokens(engine: Engine) -> None:
    for original in TEXTS:
        tokenized = await engine.tokenize(TokenizeRequest(model="tinychat", text=original, pieces=True))
        assert b"".join(tokenized.pieces) == original.encode()
        assert len(tokenized.pieces) == len(tokenized.tokens)
        assert await text(engine, tokenized.tokens) == original
    assert tokenized.context_length == 1024
    assert tokenized.load_duration > 0


async def test_special_tokens_are_tokens_or_text(engine: Engine) -> None:
    marked = TEXTS[2]
    as_tokens, as_text = await tokens(engine, marked), await tokens(engine, marked, parse_special=False)
    assert len(as_tokens) < len(as_text)
    assert await text(engine, as_text) == marked


async def test_a_cut_character_is_marked(engine: Engine) -> None:
    llama = await tokens(engine, "🦙")
    assert await text(engine, llama[:1]) == "�"


async def test_numbers_that_are_no_token_are_named(engine: Engine) -> None:
    for wrong in (-1, 1 << 20, 1 << 40, -(1 << 62)):
        with pytest.raises(InvalidRequest, match=r"^tokens\[1\] is not a token of this model$"):
            await text(engine, [5, wrong, 6, wrong])


async def test_what_is_too_long_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match=r"^the text is too long: 4194305 characters, at most 4194304$"):
        await tokens(engine, "a" * (tokenization.MOST_CHARACTERS + 1))
    monkeypatch.setattr(tokenization, "MOST_LISTED", 3)
    with pytest.raises(InvalidRequest, match=r"^the text is too long: [0-9]+ tokens, at most 3 are listed$"):
        await tokens(engine, "one two three four")
    with pytest.raises(InvalidRequest, match=r"^too many tokens: 4, at most 3 are accepted$"):
        await text(engine, [1, 2, 3, 4])


async def test_counts_are_those_of_an_answer(engine: Engine) -> None:
    for original in TEXTS[1:]:
        request = GenerateRequest(model="tinychat", prompt=original, raw=True, options={"num_predict": 1})
        _, _, final = await collect(engine.generate(request))
        assert len(await tokens(engine, original, add_special=True)) == final.prompt_eval_count
        assert (await engine.render(request)).token_count == final.prompt_eval_count
    chat = ChatRequest(model="tinychat", messages=[Message("user", "Hi")], options={"num_predict": 1})
    _, _, final = await collect(engine.chat(chat))
    rendered = await engine.render(chat)
    assert rendered.token_count == final.prompt_eval_count
    assert len(await tokens(engine, rendered.prompt, add_special=True)) == final.prompt_eval_count


async def test_a_model_is_loaded_for_it_and_goes_as_asked(engine: Engine, tmp_path: Path) -> None:
    await unload_all(engine)
    store_model(engine.store, "bert", tiny_bert(tmp_path / "bert.gguf").read_bytes())
    request = TokenizeRequest(model="bert", text="the dog", add_special=True, keep_alive=0)
    tokenized = await engine.tokenize(request)
    assert len(tokenized.tokens) > len((await engine.tokenize(TokenizeRequest(model="bert", text="the dog"))).tokens)
    await engine.detokenize(DetokenizeRequest(model="bert", tokens=tokenized.tokens, keep_alive=0))
    await gone(engine)


async def test_refusals(engine: Engine) -> None:
    with pytest.raises(ModelNotFound):
        await engine.tokenize(TokenizeRequest(model="zz", text="a"))
    with pytest.raises(OptionError, match=r'^option "num_ctx" must be of type integer$'):
        await engine.detokenize(DetokenizeRequest(model="tinychat", tokens=[], options={"num_ctx": "many"}))
