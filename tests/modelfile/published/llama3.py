"""A Llama 3 without chat template or pre-tokenizer: the vocabulary as large as the real one's, the layers tiny."""

from __future__ import annotations

import numpy as np

from modelfile.convert.writer import Metadata
from tests.modelfile.convert.checkpoints import byte_alphabet, random_weights
from tests.modelfile.published.models import HEAD, Model, decoder, network, sizes

START_OF_TEXT, END_OF_TEXT, START_OF_HEADER, END_OF_TURN = 128000, 128001, 128006, 128009
WHOLE = 300
"""A token that no merges lead to: only Llama's way to split finds it."""
_SPECIAL = {
    START_OF_TEXT: "<|begin_of_text|>",
    END_OF_TEXT: "<|end_of_text|>",
    START_OF_HEADER: "<|start_header_id|>",
    END_OF_TURN: "<|eot_id|>",
}


def llama3(pre: str | None = None, eos: int = END_OF_TEXT) -> Model:
    """The model, which says this of itself."""
    tokens = [*byte_alphabet(), *(f"#{number}#" for number in range(256, END_OF_TURN + 1))]
    tokens[WHOLE] = "zebra"
    for token, text in _SPECIAL.items():
        tokens[token] = text
    vocabulary: Metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in _SPECIAL else 1 for token in range(len(tokens))],
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.bos_token_id": START_OF_TEXT,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.eot_token_id": END_OF_TEXT,
        "tokenizer.ggml.add_bos_token": True,
    }
    if pre is not None:
        vocabulary["tokenizer.ggml.pre"] = pre
    weights = random_weights(decoder("ffn_norm") | network())
    weights["token_embd.weight"] = np.zeros((len(tokens), weights["output_norm.weight"].size), np.float16)
    return Model("llama", sizes("llama", rope__dimension_count=HEAD) | vocabulary, weights)
