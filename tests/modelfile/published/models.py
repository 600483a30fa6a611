"""Tiny models with random weights, each as it was published and as llama.cpp wants it.

The two are written down side by side, and share nothing but the values: what the layouts say is not used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from modelfile.convert.tensor import LazyTensor
from modelfile.convert.writer import Metadata, write_gguf
from tests.modelfile.convert.checkpoints import byte_alphabet, random_weights

Shapes = dict[str, tuple[int, ...]]
HIDDEN, INNER, HEADS, KV_HEADS, HEAD = 64, 96, 4, 2, 16
LAYERS = 6  # the sixth of a Gemma is the first that sees everything
EXPERTS = 4
GEMMA_NORMS = ("attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
VISION = {"hidden": 32, "inner": 48, "heads": 2, "patch": 14, "image": 28}


@dataclass
class Model:
    """A model: what it is called in the file, what it says of itself, and its weights by their names in it."""

    architecture: str
    metadata: Metadata
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """The model as a file."""
        write_gguf(path, self.architecture, self.metadata, {n: _tensor(w) for n, w in self.weights.items()}, _quiet)
        return path


@dataclass
class Pair:
    """The same language model twice, and the projector that is to be made of the first, if there is one."""

    published: Model
    expected: Model
    projector: Model | None = None


def _tensor(values: NDArray[Any]) -> LazyTensor:
    kind = Type.F16 if values.dtype == np.float16 else Type.F32
    return LazyTensor(kind, values.shape, (lambda: values,))


def _quiet(_done: int, _total: int) -> None:
    pass


def renamed(weights: Mapping[str, NDArray[Any]], *pairs: tuple[str, str]) -> dict[str, NDArray[Any]]:
    """The same weights under other names."""
    found = {}
    for name, values in weights.items():
        for old, new in pairs:
            name = name.replace(old, new)
        found[name] = values
    return found


def half(shapes: Shapes, seed: int) -> dict[str, NDArray[Any]]:
    """Weights of a vision model: matrices of 16 bits, the rest of 32."""
    weights = random_weights(shapes, seed)
    return {name: values if values.ndim == 1 else values.astype(np.float16) for name, values in weights.items()}


def decoder(*more: str, biases: tuple[str, ...] = (), head: int = HEAD) -> Shapes:
    """The tensors of a decoder in llama.cpp's names; `more` are its further norms."""
    shapes: Shapes = {"output_norm.weight": (HIDDEN,)}
    parts: Shapes = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HEADS * head, HIDDEN),
        "attn_k": (KV_HEADS * head, HIDDEN),
        "attn_v": (KV_HEADS * head, HIDDEN),
        "attn_output": (HIDDEN, HEADS * head),
    }
    parts |= {name: (head,) if name.startswith(("attn_q_", "attn_k_")) else (HIDDEN,) for name in more}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
        shapes |= {f"blk.{layer}.{name}.bias": parts[name][:1] for name in biases}
    return shapes


def network() -> Shapes:
    """The network of each layer."""
    parts = {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    return {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in parts.items()}


def experts() -> Shapes:
    """The networks of a layer with experts, and who chooses among them."""
    wide, narrow = (EXPERTS, INNER, HIDDEN), (EXPERTS, HIDDEN, INNER)
    return {"ffn_gate_inp": (EXPERTS, HIDDEN), "ffn_gate_exps": wide, "ffn_up_exps": wide, "ffn_down_exps": narrow}


def sizes(architecture: str, **more: Any) -> Metadata:
    """What every decoder says of itself."""
    found: Metadata = {
        "context_length": 256,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    found |= {key.replace("__", "."): value for key, value in more.items()}
    return {f"{architecture}.{key}": value for key, value in found.items()}


def bytewise(pre: str | None) -> Metadata:
    """A vocabulary of all bytes and a few merges."""
    merges = ["h e", "l l", "he ll", "hell o"]
    tokens = [*byte_alphabet(), *(merge.replace(" ", "") for merge in merges), "<|end|>"]
    found: Metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1) + [3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    return found if pre is None else found | {"tokenizer.ggml.pre": pre}


def pieces(extra: int = 0) -> Metadata:
    """A vocabulary of SentencePiece's, with so many tokens more than the model has embeddings for."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "a", "b", "ab", "hello"]
    tokens += [f"<image{number}>" for number in range(extra)]
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * 5 + [4] * extra
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(place) for place in range(len(tokens))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
    }


def tokens_of(vocabulary: Metadata) -> int:
    """How many tokens a vocabulary has."""
    found = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(found, list)
    return len(found)


def embeddings(vocabulary: Metadata, *, output: bool) -> Shapes:
    """The table of embeddings, and that of the scores if it is another one."""
    shape = (tokens_of(vocabulary), HIDDEN)
    return {"token_embd.weight": shape} | ({"output.weight": shape} if output else {})
