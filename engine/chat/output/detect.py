"""Which format a model writes, read off the text of the chat template in its file.

llama.cpp knows the families in the first part of the table by the same marks; the rest it finds by rendering calls
and looking at the difference. Here marks do for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.chat.output import (
    cohere,
    deepseek,
    functionary,
    gemma,
    glimmer,
    harmony,
    kimi,
    llama,
    markup,
    minimax,
    mistral,
    solar,
)
from engine.chat.output.format import (
    CONTENT_ONLY,
    Format,
    FormatSpec,
    ParseContext,
    Reader,
    ToolCallSpec,
    json_call,
    json_list,
)
from engine.chat.output.functionary import read_function_tags, read_functionary, read_glm4
from engine.chat.output.llama import read_llama
from engine.chat.output.markup import (
    ARGUMENT_TAGS,
    DSML,
    DSML_CALLS,
    DSML_CALLS_SHAPE,
    DSML_TOOLS,
    DSML_TOOLS_SHAPE,
    GLM,
    GLM_CALLS,
    MINICPM,
    MINICPM_CALLS,
    MINIMAX,
    MINIMAX_CALLS,
    QWEN_CALLS,
    QWEN_XML,
    SEED_CALLS,
    SEED_XML,
)
from engine.chat.output.pythonic import BARE_CALLS, LFM, LFM_CALLS, OLMO, OLMO_CALLS, read_bare_python, read_lfm
from engine.chat.output.reasoning import after_thinking, read_content, with_tools
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.chat.output.tagged_json import HERMES_CALLS, TaggedJSON, tagged

_THINKING = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ("<thinking>", "</thinking>"),
)


@dataclass(frozen=True, slots=True)
class _Family:
    """A format and the marks that a template of it has, all of them; `without` are marks that it has not.

    `spec` tells how such an answer is written. `whole`: the format is more than calls, so it is read even when there
    are no tools, and finds reasoning itself; the model thinks if the template has the mark `thinks`. `tags` surround
    reasoning where the template's text does not show them.
    """

    marks: tuple[str, ...]
    read: Reader
    preserved: tuple[str, ...] = ()
    spec: FormatSpec = CONTENT_ONLY
    without: tuple[str, ...] = ()
    whole: bool = False
    thinks: str = ""
    tags: tuple[str, str] | None = None

    def suits(self, template: str) -> bool:
        """Whether a template is of this family."""
        return all(mark in template for mark in self.marks) and not any(mark in template for mark in self.without)


def _json(opening: str, closing: str, *marks: str, calls: ToolCallSpec | None = None) -> _Family:
    """Calls as JSON between two tags: in one array, unless `calls` says otherwise."""
    preserved = tuple(filter(None, (opening, closing)))
    spec = FormatSpec(calls=calls or json_list(opening, closing))
    return _Family(marks or (opening,), TaggedJSON(opening, closing), preserved, spec)


_CALL = ("<tool_call>", "</tool_call>")
_GLM = (*_CALL, *ARGUMENT_TAGS)
_LFM = (LFM.opening, LFM.closing)
_GIGA = "<|message_sep|>\n\nfunction call<|role_sep|>\n"
_GIGA_CALL = json_call("<|function_call|>", "<|message_sep|>")
_PREFIXED = ("<|tools_prefix|>[", "]<|tools_suffix|>")
_PLUGIN = "<|action_start|><|plugin|>"
_READ_COMMAND_R = TaggedJSON("Action: ```json", "```", also=("Action:\n```json",))
_COMMAND_R = json_list("Action: ```json\n", "```", name="tool_name", arguments="parameters")


def _mistral(*marks: str, spec: FormatSpec, without: tuple[str, ...] = ()) -> _Family:
    return _Family(marks, mistral.Mistral(), mistral.PRESERVED, spec, without, whole=True, thinks=mistral.THINK)


def _deepseek(*marks: str, calls: ToolCallSpec) -> _Family:
    return _Family(marks, deepseek.read_deepseek, deepseek.PRESERVED, FormatSpec(calls=calls))


_FAMILIES = (
    _mistral("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]", spec=mistral.SHAPE, without=("[CALL_ID]",)),
    _Family(("<|channel|>",), harmony.read_harmony, harmony.PRESERVED, harmony.SHAPE, whole=True),
    _Family(("<atem:function_calls>", "<|eom|>"), glimmer.read_glimmer, glimmer.PRESERVED, glimmer.SHAPE, whole=True),
    _Family((">>>all", ">>>${recipient}"), read_functionary, spec=functionary.SHAPE, whole=True),
    _Family((kimi.CALLS, kimi.CALL), kimi.read_kimi, kimi.PRESERVED, kimi.SHAPE),
    _Family(("<|open|>", "<|close|>", "<|end_of_msg|>"), kimi.read_kimi3, kimi.PRESERVED_K3, kimi.SHAPE_K3, whole=True),
    _Family(("<|tool_call:begin|>", "<|tool_call:args|>"), solar.read_solar, solar.PRESERVED, solar.SHAPE, whole=True),
    _Family(
        ("HYTK", ":opensource", "<arg_key{}>"), markup.HUNYUAN, markup.PRESERVED, markup.SHAPE, tags=markup.THINKING
    ),
    _Family(("<role>ASSISTANT</role>", "<arg_key>"), GLM, _GLM, FormatSpec(calls=GLM_CALLS)),
    _Family(("<|START_TEXT|>", "<|START_ACTION|>"), cohere.read_command, cohere.PRESERVED, cohere.SHAPE, whole=True),
    _Family(("<|tool_list_start|>", "<|tool_list_end|>"), read_lfm, _LFM, FormatSpec(calls=LFM_CALLS)),
    _Family(("List of tools: [",), read_lfm, _LFM, FormatSpec(calls=LFM_CALLS), without=("<|tool_list_start|>",)),
    _json("<|function_call|>", "<|message_sep|>", "<|function_call|>", "<|message_sep|>", calls=_GIGA_CALL),
    _json(_GIGA, "<|message_sep|>", "<|role_sep|>", "<|message_sep|>", calls=json_call(_GIGA, "<|message_sep|>")),
    _Family((minimax.SPACE, "<tool_call>", "<invoke name="), minimax.read_minimax3, (minimax.SPACE,), minimax.SHAPE),
    _Family(("dsml_token", "DSML", "function_calls"), DSML_CALLS, (DSML,), FormatSpec(calls=DSML_CALLS_SHAPE)),
    _Family(("dsml_token", "DSML", "tool_calls"), DSML_TOOLS, (DSML,), FormatSpec(calls=DSML_TOOLS_SHAPE)),
    _Family(("'<|tool_call>call:'",), gemma.read_gemma4, gemma.PRESERVED, gemma.SHAPE, whole=True),
    _Family(
        ("Tool usage guidelines:", '<function name="', '<param name="'), MINICPM, spec=FormatSpec(calls=MINICPM_CALLS)
    ),
    _Family(("<tool_call>", "<function=", "<parameter="), QWEN_XML, _CALL, FormatSpec(calls=QWEN_CALLS)),
    _Family((SEED_XML.opening,), SEED_XML, (SEED_XML.opening, SEED_XML.closing), FormatSpec(calls=SEED_CALLS)),
    _Family((MINIMAX.opening,), MINIMAX, (MINIMAX.opening, MINIMAX.closing), FormatSpec(calls=MINIMAX_CALLS)),
    _Family((gemma.FUNCTION_CALL,), gemma.read_function_gemma, gemma.PRESERVED_FUNCTION, gemma.SHAPE_FUNCTION),
    _Family(("<|START_ACTION|>",), cohere.read_command, cohere.PRESERVED, cohere.SHAPE_RESPONSE, whole=True),
    _Family(("<arg_key>",), GLM, _GLM, FormatSpec(calls=GLM_CALLS)),
    _deepseek("tool▁calls▁begin", "```json", calls=deepseek.FENCED_CALLS),
    _deepseek("tool▁calls▁begin", calls=deepseek.PLAIN_CALLS),
    _mistral("[TOOL_CALLS]", "[ARGS]", spec=mistral.SHAPE),
    _mistral("[TOOL_CALLS]", spec=mistral.SHAPE_LISTED),
    _Family((LFM.opening,), read_lfm, _LFM, FormatSpec(calls=LFM_CALLS)),
    _Family((OLMO.opening,), OLMO, spec=FormatSpec(calls=OLMO_CALLS)),
    _json("<TOOLCALL>", "</TOOLCALL>"),
    _json("<|tools_prefix|>", "<|tools_suffix|>", calls=ToolCallSpec('{"', '": ', "}", *_PREFIXED, ", ")),
    _json("<|tool_call|>", "<|/tool_call|>", "<|/tool_call|>"),
    _json("<|tool_call|>", ""),
    _json(_PLUGIN, "<|action_end|>", calls=json_call(f"{_PLUGIN}\n", "<|action_end|>", arguments="parameters")),
    _json("<tool_calls>", "</tool_calls>"),
    _json(*_CALL, calls=HERMES_CALLS),
    _Family(
        ("Action:", "```json", "tool_name"), _READ_COMMAND_R, ("Action: ```json", "```"), FormatSpec(calls=_COMMAND_R)
    ),
    _json("functools[", "", calls=json_list("functools")),
    _Family(("<function=",), read_function_tags, spec=functionary.SHAPE_TAGS),
    _Family(("[func_name1(",), read_bare_python, spec=FormatSpec(calls=BARE_CALLS)),
    _Family(("<|python_tag|>",), read_llama, ("<|python_tag|>",), llama.SHAPE),
    _Family(("可用工具",), read_glm4, spec=functionary.SHAPE_LINE),
    _Family(("tools",), tagged("{"), spec=FormatSpec(calls=json_call())),
)
"""The first that suits counts."""


def native_format(template: str) -> Format:
    """The format in which a model answers whose own chat template is `template`."""
    family = next((family for family in _FAMILIES if family.suits(template)), None)
    if family is not None and family.whole:
        thinking = all(family.spec.thinking) and family.thinks in template
        return Format(family.read, True, thinking, family.preserved, family.spec)
    read = read_content if family is None else with_tools(family.read)
    preserved = () if family is None else family.preserved
    spec = CONTENT_ONLY if family is None else family.spec
    tags = (family and family.tags) or next((pair for pair in _THINKING if pair[1] in template), None)
    if tags is None:
        return Format(read, family is not None, False, preserved, spec)
    read = after_thinking(_without_closing(read, tags[1]), *tags, ask=False)
    preserved = tuple(dict.fromkeys((*tags, *preserved)))
    return Format(read, family is not None, True, preserved, replace(spec, thinking=tags))


def _without_closing(read: Reader, closing: str) -> Reader:
    """A model that may choose whether it thinks, and does not, may close the block that it never opened."""

    def read_rest(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        if (yield from buffer.accept(closing, after_space=True)):
            yield from buffer.skip_space()
        yield from read(buffer, turn)

    return read_rest
