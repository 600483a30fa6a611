"""How a model is spoken to: which of its templates writes the prompt, and in which format it answers."""

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
from modelfile.gotemplate.quoting import quote
from registry.manifest import ModelConfig

HARMONY_FAMILIES = ("gptoss", "gpt-oss")
NO_TAGS = ("", "")


@dataclass(frozen=True, slots=True)
class Route:
    """One model's way in and out. `native`: by the chat template in the model's file, which `TemplateService` renders.

    `traits` are those of the template that is used, `think_tags` what surrounds reasoning in an answer that no
    format of its own describes ("" if nothing does), `go` the Go template, if that is what is used, `bos` the text of
    the start token that prompts begin with, "" if it is the vocabulary's own or none.
    """

    renderer: Renderer | ChatTemplates
    format: Format
    traits: TemplateTraits
    think_tags: tuple[str, str]
    native: bool
    go: GoRenderer | None = None
    bos: str = ""
    parser_capabilities: frozenset[str] = frozenset()


class UnknownRenderer:
    """Stands for a renderer that does not exist."""

    trims_single = False

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
) -> Route:
    """The way of a model with these templates; `go_templates` prefers (True) or forbids (False) stored Go templates.

    `name` is the model's, which for some families tells the size; `tokens` are the special tokens that a chat template
    may print; `tool_template` is a chat template for requests with tools. Raises gotemplate.TemplateSyntaxError.
    """
    harmony = template is not None and _is_harmony(config, template)
    parser = config.parser or ("harmony" if harmony else "")
    if config.renderer:
        route = _go_route(PLAIN if template is None else template, parser)
        named = resolved(config.renderer, name, config.model_type)
        if named not in NAMES:  # told when something is to be rendered: until then it can be listed and shown
            return replace(route, renderer=UnknownRenderer(named), go=None)
        return replace(route, renderer=renderer(named), go=None, bos=renderer(named).bos)
    if template is not None and (harmony or _prefers_go(template, chat_template, go_templates)):
        return _go_route(template, parser)
    if parser:
        return _go_route(PLAIN if template is None else template, parser)
    return _native_route(chat_template, tool_template, tokens)


def completion_route(route: Route, chat_template: str) -> Route:
    """The way of `generate`: a model that brings no template at all gets its prompt as it is."""
    return route if chat_template or not route.native else _go_route(PLAIN, "")


def _is_harmony(config: ModelConfig, template: str) -> bool:
    return config.model_family in HARMONY_FAMILIES and "<|start|>" in template and "<|end|>" in template


def _prefers_go(template: str, chat_template: str, go_templates: bool | None) -> bool:
    if go_templates is not None or not chat_template:
        return go_templates is not False
    go = go_template_traits(gotemplate.ChatTemplate.parse(template), template)
    return not prefers_chat_template(chat_template_traits(chat_template), go)


def _go_route(source: str, parser: str) -> Route:
    parsed = gotemplate.ChatTemplate.parse(source)
    tags = gotemplate.infer_think_tags(parsed.template)
    renderer = GoRenderer(parsed)
    format_ = NAMED.get(parser) or template_format(gotemplate.tool_tag(parsed.template), tags)
    traits = go_template_traits(parsed, source)
    return Route(
        renderer,
        format_,
        traits,
        tags if all(tags) else NO_TAGS,
        native=False,
        go=renderer,
        parser_capabilities=parser_capabilities(parser),
    )


def parser_capabilities(parser: str) -> frozenset[str]:
    """What a named parser can read, the model can do; unknown names add nothing."""
    found = NAMED.get(parser)
    if found is None:
        return frozenset()
    return TemplateTraits(tools=found.tools, thinking=found.thinking).capabilities


def _native_route(chat_template: str, tool_template: str, tokens: dict[str, str]) -> Route:
    source = chat_template or CHATML
    traits = chat_template_traits(chat_template)
    tags = ("<think>", "</think>") if traits.thinking else NO_TAGS
    format_ = native_format(tool_template or source)
    traits = replace(traits, tools=traits.tools or bool(tool_template), thinking=traits.thinking or format_.thinking)
    templates = ChatTemplates(source, tool_template, bos=tokens.get("bos", ""), eos=tokens.get("eos", ""))
    return Route(templates, format_, traits, tags, native=True)
