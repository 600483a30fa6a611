"""From the bytes of a Modelfile to its text."""

from __future__ import annotations

import codecs

_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def decode(data: bytes) -> str:
    """The text in `data`: UTF-8 unless a byte order mark says UTF-16. What cannot be read becomes U+FFFD."""
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode(errors="replace")
