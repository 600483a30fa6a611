"""The parsers that a model's configuration may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.chat.output import cohere, delimited, gemma, glimmer, harmony, mistral
from engine.chat.output.format import Format, FormatSpec, ParseContext
from engine.chat.output.markup import GLM, QWEN_XML
from engine.chat.output.pythonic import LFM2, OLMO, read_lfm
from engine.chat.output.reasoning import after_opened_thinking, read_content, read_opened_thinking
from engine.chat.output.stream import ParserCoroutine, TextBuffer, content, discard, reasoning
from engine.chat.output.tagged_json import HERMES

_THINK = ("<think>", "</think>")


def _asked(context: ParseContext) -> bool:
    return context.think


def _asked_in_new_answer(context: ParseContext) -> bool:
    return context.think and not context.continues


def _in_new_answer(context: ParseContext) -> bool:
    return not context.continues


def _asked_without_tools(context: ParseContext) -> bool:
    return _asked_in_new_answer(context) and not context.tools


def _with(answer_format: Format, *tokens: str) -> Format:
    """The format with more preserved tokens."""
    return replace(answer_format, preserved=(*tokens, *answer_format.preserved))


def _read_lfm_thinking(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of LFM2, which decides itself whether to reason."""
    if _asked_in_new_answer(context) and (opening := (yield from buffer.accept("<think>", after_space=True))):
        buffer.push_back(opening)
        yield from read_opened_thinking(buffer, strip=True)
    yield from read_lfm(buffer, context)


# Laguna: reasoning may come again in the content; calls are GLM's markup or JSON.


def _laguna_thinks(context: ParseContext) -> bool:
    return context.think and not (context.last is not None and context.last.role == "assistant")


def read_laguna(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read what follows the first block of reasoning, which the prompt may have closed."""
    yield from buffer.accept("</think>", after_space=True)
    yield from buffer.skip_space()
    while tag := (yield from buffer.emit_until(content, "<think>", GLM.opening, trim=True)):
        if tag == "<think>":
            yield from buffer.skip_space()
            emit = reasoning if context.think else discard
            end = yield from buffer.emit_until(emit, "</think>", GLM.opening, trim=True)
            buffer.push_back(end.removeprefix("</think>"))
        else:
            yield from GLM.read_block(buffer, context.tools)
        yield from buffer.skip_space()


_QWEN_JSON = _with(replace(HERMES, complaint="failed to parse JSON: ").format, *_THINK)
_QWEN_VL = _with(replace(HERMES, complaint="", trim_after=True).format, "</think>")
_QWEN_CODER = replace(QWEN_XML, complaint="failed to parse XML: no function call").format
_QWEN35 = after_opened_thinking(_with(_QWEN_CODER, *_THINK), _asked_in_new_answer, QWEN_XML.opening, strip=True)
_COGITO = _with(delimited.DEEPSEEK_FENCED, delimited.OUTPUTS, delimited.END_OUTPUTS)
_GLM = _with(replace(GLM, complaint="empty function name", trim_after=True).format, *_THINK)
_LFM2 = _with(LFM2, *_THINK)
_LAGUNA = _with(replace(GLM.format, read=read_laguna), *_THINK, "<user>", "</user>")

NAMED: Mapping[str, Format] = {
    "qwen3": _QWEN_JSON,
    "qwen3-thinking": after_opened_thinking(_QWEN_JSON, _asked, HERMES.opening),
    "qwen3.5": _QWEN35,
    "ornith": _QWEN35,
    "qwen3-coder": _QWEN_CODER,
    "qwen3-vl-instruct": _QWEN_VL,
    "qwen3-vl-thinking": after_opened_thinking(_QWEN_VL, _in_new_answer),
    "ministral": mistral.MINISTRAL,
    "harmony": harmony.HARMONY,
    "cogito": after_opened_thinking(_COGITO, _asked_without_tools),
    "deepseek3": after_opened_thinking(delimited.DEEPSEEK, _asked_in_new_answer),
    "olmo3": OLMO.format,
    "olmo3-think": after_opened_thinking(Format(read_content, preserved=("</think>",)), _in_new_answer),
    "nemotron-3-nano": _QWEN35,
    "nemotron-3.5-nano": _QWEN35,
    "functiongemma": gemma.FUNCTION_GEMMA,
    "gemma4": gemma.GEMMA4,
    "gemma4-no-thinking": gemma.GEMMA4_SILENT,
    "glm-4.7": after_opened_thinking(_GLM, _asked),
    "glm-ocr": _GLM,
    "lfm2": _LFM2,
    "lfm2-thinking": replace(
        _LFM2,
        read=_read_lfm_thinking,
        spec=FormatSpec(_THINK, calls=LFM2.spec.calls, only_if_asked=True),
        thinking=True,
    ),
    "laguna": after_opened_thinking(_LAGUNA, _laguna_thinks, GLM.opening, strip=True),
    "poolside-v1": after_opened_thinking(_LAGUNA, _asked, GLM.opening, strip=True),
    "cohere": replace(
        cohere.COMMAND,
        read=cohere.read_cohere,
        spec=replace(cohere.COMMAND.spec, begins=_asked_in_new_answer),
    ),
    "glimmer": glimmer.GLIMMER,
    "passthrough": Format(read_content),
}
"""Formats by the parser names that Ollama accepts."""
