"""The sampling options of every run: the API's documented defaults, stated explicitly.

Servers have different defaults (Ollama's repeat penalty is 1.0, llama-server's min_p 0.05), so none is left to them.
"""

from __future__ import annotations

TEMPERATURE = 0.8
TOP_K = 40
TOP_P = 0.9
MIN_P = 0.0
REPEAT_PENALTY = 1.1
REPEAT_LAST_N = 64


def request_options(n_tokens: int) -> dict[str, float]:
    """The `options` of a request for exactly `n_tokens` tokens from a model that never stops by itself."""
    return {
        "temperature": TEMPERATURE,
        "top_k": TOP_K,
        "top_p": TOP_P,
        "min_p": MIN_P,
        "repeat_penalty": REPEAT_PENALTY,
        "repeat_last_n": REPEAT_LAST_N,
        "num_predict": n_tokens,
    }
