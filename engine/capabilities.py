"""What a model can do, by its file, config and template; and which of its two templates renders its prompts.

Pure functions. The names are the API's: completion, tools, insert, vision, embedding, rerank, thinking, audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelfile.gotemplate import ChatTemplate, infer_think_tags
from registry.gguf import GGUFArray, GGUFHeader
from registry.manifest import ModelConfig

ENCODERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "eurobert", "modern-bert")
) | {"gemma-embedding"}
"""Architectures with attention in both directions: they cannot generate and have no KV cache."""
_POOLS_RANK = 4  # `llama_pooling_type`: the classifier's output
_NOT_POOLING = (None, 0)  # unset, none
_CLASSIFIERS = ("cls.weight", "cls.output.weight")
_SPLITS_THINKING = ("content.split('</think>')", 'content.split("</think>")')
_READS_THINKING = ("reasoning_content", "<SPECIAL_12>")
_CALLS = ("tool_calls", "assistant_tool_call")
_RESULTS = (
    *("tool_response", "tool_results", "ipython"),
    *("role'] == 'tool'", 'role\'] == "tool"', "role\"] == 'tool'", 'role"] == "tool"'),
    *("message.role == 'tool'", 'message.role == "tool"'),
)
_GO_RESULTS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
_FIM = ("fim_pre", "fim_suf", "fim_mid")
_ALWAYS_THINKING = ("gptoss", "gpt-oss")


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template can express: tools, thinking, fill-in-the-middle; `round_trip`: calls and their results."""

    tools: bool = False
    thinking: bool = False
    insert: bool = False
    round_trip: bool = False

    @property
    def capabilities(self) -> frozenset[str]:
        """The traits that are capabilities."""
        names = (("tools", self.tools), ("thinking", self.thinking), ("insert", self.insert))
        return frozenset(name for name, has in names if has)


def chat_template_traits(source: str) -> TemplateTraits:
    """The traits of a Jinja chat template, by strings in its source."""
    tools = "tools" in source or "tool_call" in source
    thinking = ("<think>" in source and "</think>" in source) or (
        _any(_SPLITS_THINKING, source) and not _any(_READS_THINKING, source)
    )
    return TemplateTraits(tools, thinking, round_trip=tools and _any(_CALLS, source) and _any(_RESULTS, source))


def go_template_traits(template: ChatTemplate, source: str) -> TemplateTraits:
    """The traits of a Go template, by the variables that it uses."""
    names = set(template.variables)
    return TemplateTraits(
        tools="tools" in names,
        thinking=all(infer_think_tags(template.template)),
        insert="suffix" in names,
        round_trip={"tools", "toolcalls"} <= names and _any(_GO_RESULTS, source),
    )


def prefers_chat_template(chat: TemplateTraits, go: TemplateTraits) -> bool:
    """Whether the file's chat template (traits `chat`) beats the stored Go template (traits `go`).

    With more capabilities the chat template wins, unless only the Go template can show calls and their results; with
    the same ones it wins only if it alone can show these. In all other cases the Go template wins.
    """
    can_chat, can_go = chat.capabilities, go.capabilities
    if len(can_chat) > len(can_go):
        return chat.round_trip or not go.round_trip
    return can_chat == can_go and chat.tools and chat.round_trip and not go.round_trip


def all_capabilities(
    config: ModelConfig, header: GGUFHeader, projectors: Sequence[GGUFHeader], template: TemplateTraits
) -> frozenset[str]:
    """What a model can do; `template`: the traits of the template that renders its prompts."""
    capabilities = {*(config.capabilities or ()), *template.capabilities, *_of_files(header, projectors)}
    if {config.model_family, header.architecture} & set(_ALWAYS_THINKING):
        capabilities.add("thinking")
    return frozenset(capabilities)


def _of_files(header: GGUFHeader, projectors: Sequence[GGUFHeader]) -> Iterator[str]:
    if not header.metadata:
        return
    if all(isinstance(header.metadata.get(f"tokenizer.ggml.{name}_token_id"), int) for name in _FIM):
        yield "insert"
    yield "embedding" if _embeds(header) else "completion"
    if ranks(header):
        yield "rerank"
    if projectors or header.field("vision.block_count") is not None:
        yield "vision"
    if header.field("audio.block_count") is not None or any(map(_hears, projectors)):
        yield "audio"


def _embeds(header: GGUFHeader) -> bool:
    """Whether the model is for embeddings: an encoder, or a file that says how to pool."""
    return header.architecture in ENCODERS or header.field("pooling_type") is not None


def ranks(header: GGUFHeader) -> bool:
    """Whether the model is for reranking: it has a classifier, and pools for it.

    Converted encoders do not say how they pool; with several labels they classify, and rank only if the file says so.
    """
    pooling = header.field("pooling_type")
    if pooling in _NOT_POOLING and header.architecture in ENCODERS:
        labels = header.field("classifier.output_labels")
        if isinstance(labels, GGUFArray) and len(labels) > 1:
            return False
    elif pooling != _POOLS_RANK:
        return False
    return any(tensor.name in _CLASSIFIERS for tensor in header.tensors)


def _hears(projector: GGUFHeader) -> bool:
    encoders = [value for key, value in projector.metadata.items() if key.endswith("has_audio_encoder")]
    return any(value is True for value in encoders)


def _any(parts: Sequence[str], text: str) -> bool:
    return any(part in text for part in parts)
