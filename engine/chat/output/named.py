"""The parsers that a model's configuration may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.chat.output import cohere, deepseek, gemma, glimmer, harmony, laguna, mistral
from engine.chat.output.format import Format, FormatSpec, ParseContext, Reader, ToolCallSpec
from engine.chat.output.markup import ARGUMENT_TAGS, GLM, GLM_CALLS, QWEN_CALLS, QWEN_XML
from engine.chat.output.pythonic import LFM, LFM_CALLS, OLMO, OLMO_CALLS, read_lfm
from engine.chat.output.reasoning import read_content, read_opened_thinking
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.chat.output.tagged_json import HERMES_CALLS, TaggedJSON

_THINK = ("<think>", "</think>")
_CALL = ("<tool_call>", "</tool_call>")


def _asked(turn: ParseContext) -> bool:
    return turn.think


def _asked_afresh(turn: ParseContext) -> bool:
    return turn.think and not turn.continues


def _afresh(turn: ParseContext) -> bool:
    return not turn.continues


def _asked_without_tools(turn: ParseContext) -> bool:
    return _asked_afresh(turn) and not turn.tools


def _thinking(read: Reader, thinks: Callable[[ParseContext], bool], *interrupts: str, strip: bool = False) -> Reader:
    """A reader of content, with reasoning before it where the renderer's prompt opens the block."""

    def read_both(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        if thinks(turn):
            yield from read_opened_thinking(buffer, *interrupts, strip=strip)
        yield from read(buffer, turn)

    return read_both


def _shape(begins: Callable[[ParseContext], bool], calls: ToolCallSpec | None = None) -> FormatSpec:
    """The shape of an answer that is read by `_thinking` or alike."""
    return FormatSpec(_THINK, calls=calls, begins=begins)


def _read_lfm_thinking(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """LFM2 decides itself whether it thinks."""
    if _asked_afresh(turn) and (opening := (yield from buffer.accept("<think>", after_space=True))):
        buffer.push_back(opening)
        yield from read_opened_thinking(buffer, strip=True)
    yield from read_lfm(buffer, turn)


_QWEN_JSON = TaggedJSON(complaint="failed to parse JSON: ")
_QWEN_VL = TaggedJSON(complaint="", trim_after=True)
_QWEN_XML = replace(QWEN_XML, complaint="failed to parse XML: no function call")
_GLM = replace(GLM, complaint="empty function name", trim_after=True)

_HERMES = FormatSpec(calls=HERMES_CALLS)

_QWEN35 = Format(
    _thinking(_QWEN_XML, _asked_afresh, "<tool_call>", strip=True),
    True,
    True,
    _THINK + _CALL,
    _shape(_asked_afresh, QWEN_CALLS),
)
_GEMMA4 = Format(gemma.read_gemma4, True, True, gemma.PRESERVED, gemma.SHAPE)

NAMED: Mapping[str, Format] = {
    "qwen3": Format(_QWEN_JSON, True, False, _THINK + _CALL, _HERMES),
    "qwen3-thinking": Format(
        _thinking(_QWEN_JSON, _asked, "<tool_call>"), True, True, _THINK + _CALL, _shape(_asked, HERMES_CALLS)
    ),
    "qwen3.5": _QWEN35,
    "ornith": _QWEN35,
    "qwen3-coder": Format(_QWEN_XML, True, False, _CALL, FormatSpec(calls=QWEN_CALLS)),
    "qwen3-vl-instruct": Format(_QWEN_VL, True, False, ("</think>", *_CALL), _HERMES),
    "qwen3-vl-thinking": Format(
        _thinking(_QWEN_VL, _afresh), True, True, ("</think>", *_CALL), _shape(_afresh, HERMES_CALLS)
    ),
    "ministral": Format(mistral.Mistral(strict=True), True, False, mistral.PRESERVED, mistral.SHAPE),
    "harmony": Format(harmony.read_harmony, True, True, harmony.PRESERVED, harmony.SHAPE),
    "cogito": Format(
        _thinking(deepseek.read_deepseek, _asked_without_tools),
        True,
        True,
        (*deepseek.PRESERVED, deepseek.OUTPUTS, deepseek.END_OUTPUTS),
        _shape(_asked_without_tools, deepseek.FENCED_CALLS),
    ),
    "deepseek3": Format(
        _thinking(deepseek.read_deepseek, _asked_afresh),
        True,
        True,
        deepseek.PRESERVED,
        _shape(_asked_afresh, deepseek.PLAIN_CALLS),
    ),
    "olmo3": Format(OLMO, True, False, (OLMO.opening, OLMO.closing), FormatSpec(calls=OLMO_CALLS)),
    "olmo3-think": Format(_thinking(read_content, _afresh), False, True, ("</think>",), _shape(_afresh)),
    "nemotron-3-nano": _QWEN35,
    "nemotron-3.5-nano": _QWEN35,
    "functiongemma": Format(gemma.read_function_gemma, True, False, gemma.PRESERVED_FUNCTION, gemma.SHAPE_FUNCTION),
    "gemma4": _GEMMA4,
    "gemma4-no-thinking": replace(
        _GEMMA4, read=gemma.read_gemma4_silent, thinking=False, spec=FormatSpec(calls=gemma.SHAPE.calls)
    ),
    "glm-4.7": Format(_thinking(_GLM, _asked), True, True, _THINK + _CALL + ARGUMENT_TAGS, _shape(_asked, GLM_CALLS)),
    "glm-ocr": Format(_GLM, True, False, _THINK + _CALL + ARGUMENT_TAGS, FormatSpec(calls=GLM_CALLS)),
    "lfm2": Format(read_lfm, True, False, (*_THINK, LFM.opening, LFM.closing), FormatSpec(calls=LFM_CALLS)),
    "lfm2-thinking": Format(
        _read_lfm_thinking,
        True,
        True,
        (*_THINK, LFM.opening, LFM.closing),
        FormatSpec(_THINK, calls=LFM_CALLS, asks=True),
    ),
    "laguna": Format(laguna.read_laguna, True, True, laguna.PRESERVED, _shape(laguna.thinks, GLM_CALLS)),
    "poolside-v1": Format(laguna.read_poolside, True, True, laguna.PRESERVED, _shape(_asked, GLM_CALLS)),
    "cohere": Format(cohere.read_cohere, True, True, cohere.PRESERVED, replace(cohere.SHAPE, begins=_asked_afresh)),
    "glimmer": Format(glimmer.read_glimmer, True, True, glimmer.PRESERVED, glimmer.SHAPE),
    "passthrough": Format(read_content, False, False),
}
"""By the names that Ollama accepts."""
