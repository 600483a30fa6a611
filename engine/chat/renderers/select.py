"""The renderers that a model's configuration may name, and how a name is resolved."""

from __future__ import annotations

from collections.abc import Mapping

from engine.chat.renderers.cohere import Cohere
from engine.chat.renderers.deepseek import Cogito, DeepSeek31
from engine.chat.renderers.family import NamedRenderer
from engine.chat.renderers.gemma import FunctionGemma, Gemma4
from engine.chat.renderers.glimmer import Glimmer
from engine.chat.renderers.glm import GLM47, GLMOcr
from engine.chat.renderers.laguna import Laguna, Poolside
from engine.chat.renderers.lfm2 import LFM2, LFM2Thinking
from engine.chat.renderers.nemotron import Nemotron3, Nemotron35
from engine.chat.renderers.olmo import ASSISTANT, HELPFUL, OLMO, Olmo3, Olmo3Think
from engine.chat.renderers.qwen3_5 import Ornith, Qwen35, Qwen38
from engine.chat.renderers.qwen3_coder import Qwen3Coder
from engine.chat.renderers.qwen3_vl import Qwen3VL
from engine.errors import InvalidRequest
from modelfile.text import quote

GEMMA4 = "gemma4"
_SMALL, _LARGE = "gemma4-small", "gemma4-large"
_SMALL_MARKS, _LARGE_MARKS = ("e2b", "e4b"), ("12b", "26b", "31b")
_LARGE_FROM = 12e9  # parameters
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}

_RENDERERS: Mapping[str, NamedRenderer] = {
    "qwen3-coder": Qwen3Coder(),
    "qwen3-vl-instruct": Qwen3VL(thinks=False),
    "qwen3-vl-thinking": Qwen3VL(thinks=True),
    "qwen3.5": Qwen35(),
    "qwen3.8": Qwen38(),
    "ornith": Ornith(),
    "cogito": Cogito(),
    "deepseek3.1": DeepSeek31(),
    "olmo3": Olmo3(ASSISTANT),
    "olmo3.1": Olmo3(OLMO),
    "olmo3-think": Olmo3Think(OLMO),
    "olmo3-32b-think": Olmo3Think(HELPFUL),
    "nemotron-3-nano": Nemotron3(),
    "nemotron-3.5-nano": Nemotron35(),
    GEMMA4: Gemma4(closes_reasoning=False),
    _SMALL: Gemma4(closes_reasoning=False),
    _LARGE: Gemma4(closes_reasoning=True),
    "functiongemma": FunctionGemma(),
    "glm-4.7": GLM47(),
    "glm-ocr": GLMOcr(),
    "lfm2": LFM2(),
    "lfm2-thinking": LFM2Thinking(),
    "laguna": Laguna(),
    "poolside-v1": Poolside(),
    "cohere": Cohere(),
    "glimmer": Glimmer(),
}
NAMES = tuple(_RENDERERS)
"""All accepted names."""


def renderer(name: str) -> NamedRenderer:
    """The renderer of this name. Raises InvalidRequest."""
    if (named := _RENDERERS.get(name)) is None:
        raise InvalidRequest(f"unknown renderer {quote(name)}")
    return named


def resolved(name: str, model: str, model_type: str) -> str:
    """The full name of the renderer in a model's configuration.

    `gemma4` stands for one of two, chosen by the model's name or else by `model_type`, its size (`25.2B`).
    """
    if name != GEMMA4:
        return name
    lower = model.lower()
    if any(mark in lower for mark in _SMALL_MARKS):
        return _SMALL
    if any(mark in lower for mark in _LARGE_MARKS):
        return _LARGE
    return _LARGE if _parameters(model_type) >= _LARGE_FROM else _SMALL


def _parameters(model_type: str) -> float:
    """Number of parameters of a model type such as `25.2B`; 0 if it is none."""
    try:
        return float(model_type[:-1]) * _UNITS[model_type[-1:].upper()]
    except (ValueError, KeyError):
        return 0
