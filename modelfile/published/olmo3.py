"""OLMo 3, which llama.cpp knows as OLMo 2 with a window."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import is_of

LAYOUT = Layout(name="olmo3", version=1, marks=is_of("olmo3"), text=Rewrite(architecture="olmo2"))
