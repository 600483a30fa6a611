"""BERT and what was made of it for embeddings, such as MiniLM and BGE."""

from __future__ import annotations

from gguf import MODEL_ARCH

from modelfile.convert.family import Family
from modelfile.convert.metadata import Metadata
from modelfile.convert.pooling import normalization, pooling
from modelfile.convert.special import special_tokens
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, read_tokenizer_json
from modelfile.convert.wordpiece import SPECIAL, wordpiece_vocabulary

_UNUSED = ("embeddings.position_ids", "pooler.", "cls.predictions", "cls.seq_relationship")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


class Bert(Family):
    """BertModel. Heads for other tasks than embeddings are left out."""

    arch = MODEL_ARCH.BERT

    def metadata(self) -> Metadata:
        """Every token sees all others."""
        self.check()
        own: Metadata = {"attention.causal": False}
        return super().metadata() | self.keys(own | pooling(self.files) | normalization(self.files))

    def check(self) -> None:
        """Refuse a variant for which the runner has no code."""
        self.config.expect("hidden_act", "gelu")
        self.config.expect("position_embedding_type", "absolute")

    def vocabulary(self) -> Metadata:
        """WordPiece, and how many kinds of segments the model knows."""
        tokenizer = read_tokenizer_json(self.files)
        vocabulary, ids = wordpiece_vocabulary(self.files, self.config, tokenizer)
        segments: Metadata = {"tokenizer.ggml.token_type_count": self.config.positive("type_vocab_size", default=1)}
        settings = SPECIAL | self.files.object_if_there(TOKENIZER_CONFIG)
        special = special_tokens(settings, tokenizer, self.config, ids, len(vocabulary.tokens))
        return segments | vocabulary.metadata() | special

    def rename(self, name: str) -> str | None:
        """Names of the model alone, those of norms as they are today."""
        name = name.removeprefix("bert.")
        for old, new in _OLD_NAMES.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        return None if name.startswith(_UNUSED) else name
