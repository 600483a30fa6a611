"""Token counts of answers, and what else the objects of answers begin with."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from engine.api import Final

FINGERPRINT = "fp_ollama"


def head_of(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """The keys that all objects of one answer begin with. `created` is in Unix seconds."""
    return {
        "id": f"{prefix}-{random.randrange(999)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def usage_of(finals: Mapping[int, Final], choices_per_prompt: int = 1, *, reasoning: bool = False) -> dict[str, Any]:
    """`usage` of all choices together. A prompt counts once, however many answers it has.

    `reasoning`: with the tokens of it, as Ollama has no such count.
    """
    prompts = [final for index, final in finals.items() if index % choices_per_prompt == 0]
    prompt_tokens = sum(final.prompt_eval_count for final in prompts)
    tokens = sum(final.eval_count for final in finals.values())
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": prompt_tokens + tokens,
        "prompt_tokens_details": {"cached_tokens": sum(final.prompt_eval_cached for final in prompts)},
    }
    if reasoning:
        thought = sum(final.thinking_count for final in finals.values())
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage
