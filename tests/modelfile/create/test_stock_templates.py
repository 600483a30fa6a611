"""The texts that end an answer by a template that many files have in common."""

from __future__ import annotations

import pytest
from llama_cpp import llama_chat_format

from modelfile.create.stock_templates import known_stops
from registry import manifest as media_types
from registry.storage.store import Store
from tests.modelfile.create.models import gguf, make, manifest, name, string, upload

CHATML = llama_chat_format.CHATML_CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("template", "stops"),
    [
        (CHATML, ("<|im_start|>", "<|im_end|>")),
        (
            llama_chat_format.LLAMA3_INSTRUCT_CHAT_TEMPLATE,
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
        (f"{CHATML} ", ()),
        ("", ()),
    ],
)
def test_a_template_is_known_to_the_letter(template: str, stops: tuple[str, ...]) -> None:
    assert known_stops(template) == stops


async def test_new_weights_bring_their_stops(store: Store) -> None:
    files = upload(store, m_gguf=gguf("llama", string("tokenizer.chat_template", CHATML)))
    await make(store, "plain", files=files)
    assert parameters(store, "plain") == b'{"stop":["\\u003c|im_start|\\u003e","\\u003c|im_end|\\u003e"]}\n'
    await make(store, "told", files=files, parameters={"stop": ["x"], "top_k": 1})
    assert parameters(store, "told") == b'{"stop":["x"],"top_k":1}\n'
    await make(store, "derived", base=name("told"), parameters={"top_k": 2})
    assert parameters(store, "derived") == b'{"stop":["x"],"top_k":2}\n'


def parameters(store: Store, model: str) -> bytes:
    [layer] = manifest(store, model).of_type(media_types.PARAMS)
    return store.read_blob(layer.digest, media_types.MAX_BYTES)
