"""BERT embedding models (such as MiniLM and BGE) and Nomic BERT."""

from __future__ import annotations

import re

from gguf import MODEL_ARCH

from modelfile.convert.family import Family, normalization, pooling
from modelfile.convert.tensor import LazyTensor, join
from modelfile.convert.tokenizer import special_tokens
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, read_tokenizer_json
from modelfile.convert.wordpiece import SPECIAL, wordpiece_vocabulary
from modelfile.convert.writer import Metadata

_UNUSED = ("embeddings.position_ids", "pooler.", "cls.predictions", "cls.seq_relationship")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


class Bert(Family):
    """BertModel. Heads for tasks other than embeddings are left out."""

    arch = MODEL_ARCH.BERT

    def metadata(self) -> Metadata:
        """Adds non-causal attention and pooling."""
        self.check()
        own: Metadata = {"attention.causal": False}
        return super().metadata() | self.keys(own | pooling(self.files) | normalization(self.files))

    def check(self) -> None:
        """Raise ConvertError for a variant that llama.cpp does not support."""
        self.config.expect("hidden_act", "gelu")
        self.config.expect("position_embedding_type", "absolute")

    def vocabulary(self) -> Metadata:
        """WordPiece, and the number of segment types."""
        tokenizer = read_tokenizer_json(self.files)
        vocabulary, ids = wordpiece_vocabulary(self.files, self.config, tokenizer)
        segments: Metadata = {"tokenizer.ggml.token_type_count": self.config.positive("type_vocab_size", default=1)}
        settings = SPECIAL | self.files.object_if_there(TOKENIZER_CONFIG)
        special = special_tokens(settings, tokenizer, self.config, ids, len(vocabulary.tokens))
        return segments | vocabulary.metadata() | special

    def rename(self, name: str) -> str | None:
        """Drop the `bert.` prefix and old names of norms."""
        name = name.removeprefix("bert.")
        for old, new in _OLD_NAMES.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        return None if name.startswith(_UNUSED) else name


# Nomic BERT: BERT with RoPE and gated MLPs, in its authors' form and in that of transformers 5.

_TRAINED = {8192: 2048, 2048: 512}
"""The authors' `n_positions`, and the length that such a model was trained for."""

_NAMES = {
    "embeddings.LayerNorm.": "emb_ln.",
    ".self_attn.o_proj.": ".attn.out_proj.",
    ".mlp.up_proj.": ".mlp.fc11.",
    ".mlp.gate_proj.": ".mlp.fc12.",
    ".mlp.down_proj.": ".mlp.fc2.",
    ".post_attention_layernorm.": ".norm1.",
    ".post_mlp_layernorm.": ".norm2.",
}
"""Names in transformers 5, and the authors' names."""

_KNOWN = {
    "activation_function": "swiglu",
    "hidden_act": "silu",
    "causal": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "moe_every_n_layers": 0,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
}
"""The settings that llama.cpp supports; `rotary_emb_scale_base` must be absent."""

_QUERY = re.compile(r"(.+)\.self_attn\.q_proj\.(weight|bias)")


class NomicBert(Bert):
    """NomicBertModel, without a mixture of experts."""

    arch = MODEL_ARCH.NOMIC_BERT

    def check(self) -> None:
        """Raise ConvertError for a variant that llama.cpp does not support."""
        for name, value in _KNOWN.items():
            self.config.expect(name, value)
        self.config.expect("rotary_emb_scale_base")

    @property
    def longest(self) -> int:
        """The trained context: the authors' files state a longer one."""
        if (length := self.config.integer_if_there("max_position_embeddings", "n_ctx")) is not None:
            return length
        positions = self.config.positive("n_positions")
        return _TRAINED.get(positions, positions)

    def rename(self, name: str) -> str | None:
        """Rename to the authors' names."""
        known = super().rename(name)
        if known is None or known.startswith("encoder."):
            return known
        for newer, older in _NAMES.items():
            known = known.replace(newer, older)
        return f"encoder.{known}" if known.startswith("layers.") else known

    def merge(self, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Join queries, keys and values to one matrix."""
        merged = dict(tensors)
        for name in tensors:
            if query := _QUERY.fullmatch(name):
                names = [f"{query[1]}.self_attn.{part}_proj.{query[2]}" for part in "qkv"]
                merged[f"{query[1]}.attn.Wqkv.{query[2]}"] = join(
                    [merged.pop(part) for part in names if part in merged]
                )
        return merged
