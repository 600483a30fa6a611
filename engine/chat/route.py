"""Which of a model's templates writes its prompts, and in which format it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.api import Message, Think, Tool
from engine.capabilities import TemplateTraits, chat_template_traits, go_template_traits, prefers_chat_template
from engine.chat.go_template import PLAIN, GoRenderer
from engine.chat.jinja.messages import CHATML, ChatTemplates
from engine.chat.output import NAMED, Format, native_format, template_format
from engine.chat.prompt import Prompt, Renderer
from engine.chat.renderers import NAMES, renderer, resolved
from engine.errors import InvalidRequest
from modelfile import gotemplate
from modelfile.text import quote
from registry.manifest import ModelConfig

HARMONY_FAMILIES = ("gptoss", "gpt-oss")
NO_TAGS = ("", "")


@dataclass(frozen=True, slots=True)
class PromptRoute:
    """How one model's prompts are written and its answers read.

    `renderer` writes prompts; if `uses_embedded_template`, it is the chat template in the model's file, which
    `TemplateService` renders. `traits` are those of the template in use. `think_tags` surround reasoning in answers
    whose format does not say so itself, ("", "") for none. `go_renderer` is the Go template, if that is in use; `bos`
    the text of the start token that prompts begin with, "" if it is the vocabulary's own or there is none.
    """

    renderer: Renderer | ChatTemplates
    answer_format: Format
    traits: TemplateTraits
    think_tags: tuple[str, str]
    uses_embedded_template: bool
    go_renderer: GoRenderer | None = None
    bos: str = ""
    parser_capabilities: frozenset[str] = frozenset()


class UnknownRenderer:
    """Stands for a renderer that does not exist. The model can be listed and shown; rendering raises InvalidRequest."""

    trims_single_message = False

    def __init__(self, name: str) -> None:
        self._name = name

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """Raises InvalidRequest."""
        raise InvalidRequest(f"unknown renderer {quote(self._name)}")


def choose_route(
    name: str,
    config: ModelConfig,
    template: str | None,
    chat_template: str,
    tokens: dict[str, str],
    go_templates: bool | None,
    tool_template: str = "",
) -> PromptRoute:
    """The route of a model with these templates. Raises gotemplate.TemplateSyntaxError.

    `name` is the model's, which tells the size in some families. `template` is its Go template, `chat_template` the one
    in its file, `tool_template` the one there for requests with tools, `tokens` the special tokens that they may print.
    `go_templates` prefers (True) or forbids (False) Go templates.
    """
    harmony = template is not None and _is_harmony(config, template)
    parser = config.parser or ("harmony" if harmony else "")
    if config.renderer:
        route = _go_route(PLAIN if template is None else template, parser)
        named = resolved(config.renderer, name, config.model_type)
        if named not in NAMES:
            return replace(route, renderer=UnknownRenderer(named), go_renderer=None)
        return replace(route, renderer=renderer(named), go_renderer=None, bos=renderer(named).bos)
    if template is not None and (harmony or _prefers_go(template, chat_template, go_templates)):
        return _go_route(template, parser)
    if parser:
        return _go_route(PLAIN if template is None else template, parser)
    return _embedded_route(chat_template, tool_template, tokens)


def completion_route(route: PromptRoute, chat_template: str) -> PromptRoute:
    """The route of `generate`: a model without any template gets its prompt as it is."""
    return route if chat_template or not route.uses_embedded_template else _go_route(PLAIN, "")


def _is_harmony(config: ModelConfig, template: str) -> bool:
    return config.model_family in HARMONY_FAMILIES and "<|start|>" in template and "<|end|>" in template


def _prefers_go(template: str, chat_template: str, go_templates: bool | None) -> bool:
    if go_templates is not None or not chat_template:
        return go_templates is not False
    go_traits = go_template_traits(gotemplate.ChatTemplate.parse(template), template)
    return not prefers_chat_template(chat_template_traits(chat_template), go_traits)


def _go_route(source: str, parser: str) -> PromptRoute:
    """The route by a Go template, with the format of a named parser or the one that the template implies."""
    parsed = gotemplate.ChatTemplate.parse(source)
    tags = gotemplate.infer_think_tags(parsed.template)
    renderer = GoRenderer(parsed)
    format_ = NAMED.get(parser) or template_format(gotemplate.tool_tag(parsed.template), tags)
    traits = go_template_traits(parsed, source)
    return PromptRoute(
        renderer,
        format_,
        traits,
        tags if all(tags) else NO_TAGS,
        uses_embedded_template=False,
        go_renderer=renderer,
        parser_capabilities=parser_capabilities(parser),
    )


def parser_capabilities(parser: str) -> frozenset[str]:
    """The capabilities that a named parser adds to a model; none for an unknown name."""
    parser_format = NAMED.get(parser)
    if parser_format is None:
        return frozenset()
    return TemplateTraits(tools=parser_format.tools, thinking=parser_format.thinking).capabilities


def _embedded_route(chat_template: str, tool_template: str, tokens: dict[str, str]) -> PromptRoute:
    """The route by the chat template in the model's file."""
    source = chat_template or CHATML
    traits = chat_template_traits(chat_template)
    tags = ("<think>", "</think>") if traits.thinking else NO_TAGS
    format_ = native_format(tool_template or source)
    traits = replace(traits, tools=traits.tools or bool(tool_template), thinking=traits.thinking or format_.thinking)
    templates = ChatTemplates(source, tool_template, bos=tokens.get("bos", ""), eos=tokens.get("eos", ""))
    return PromptRoute(templates, format_, traits, tags, uses_embedded_template=True)
