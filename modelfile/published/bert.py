"""Snowflake Arctic Embed 2, a BERT with a tokenizer whose table for normalising is written as text."""

from __future__ import annotations

import base64
from typing import Final

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import texts
from registry.gguf import GGUFError, GGUFHeader

_TABLE: Final = "tokenizer.ggml.precompiled_charsmap"


def _marks(header: GGUFHeader) -> bool:
    is_used = header.architecture == "bert" and header.metadata.get("tokenizer.ggml.model") == "t5"
    return is_used and bool(texts(header, _TABLE))


def _table(header: GGUFHeader) -> bytes:
    """The table's bytes, of which each text is a digit in base 64. Raises GGUFError if they are something else."""
    try:
        return base64.b64decode("".join(texts(header, _TABLE)), validate=True)
    except ValueError:
        raise GGUFError("the table by which texts are normalised is not in base 64") from None


LAYOUT = Layout(
    name="bert",
    version=1,
    marks=_marks,
    text=Rewrite(architecture="bert", values={_TABLE: _table}),
)
