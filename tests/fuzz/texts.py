"""Texts of strangers: Modelfiles, templates, manifests, names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random

from engine.chat.jinja.adapt import definition
from engine.chat.jinja.template import CHATML, JinjaTemplate, RenderError
from modelfile import gotemplate
from modelfile.conversation import Message
from modelfile.gotemplate import Conversation
from modelfile.parser import ModelfileError, parse
from modelfile.printer import print_modelfile
from registry.manifest import Manifest, ManifestError
from registry.names import InvalidName, ModelName
from tests.engine.chat.reading import TOOLS
from tests.fuzz.trials import Target, Trial, broken
from tests.modelfile.gotemplate.cases import RECORDED

_MODELFILE = '''FROM ./x.gguf
# said
PARAMETER stop "a b"
SYSTEM """two
lines"""
MESSAGE user Hi
TEMPLATE {{ .Prompt }}
'''
_GO_WORDS = (
    *("{{", "}}", "{{-", "-}}", "{{ end }}", "{{ else }}", "{{ range .Messages }}", "{{ if ", "{{ with .Tools }}"),
    *("$", "$x := ", ".Content", ".ToolCalls", "index ", "slice ", "len ", "printf ", "json ", "(", ")", "|", '"%v"'),
    *("{{ template ", "{{ define ", "{{ break }}", "1e3", "0x", "-1", "'a'", "`", "/*", "nil", "eq ", "and "),
)
_JINJA = (
    CHATML,
    "{% macro f(x, n=1) %}{{ x | tojson }}{% endmacro %}{{ f(tools) }}{% set ns = namespace(a=0) %}"
    "{% for m in messages if m.role != 'tool' %}{% set ns.a = ns.a + 1 %}{{ m['content'].split('x')[-1] ~ ns.a }}"
    "{% else %}{{ raise_exception('none') }}{% endfor %}{{ messages[1:] | length }}{{ '%s' | format(1) }}",
)
_JINJA_WORDS = (
    *("{{", "}}", "{%", "%}", "{%-", "-%}", "{% for m in messages %}", "{% endfor %}", "{% if ", "{% endif %}"),
    *("{% set x = ", "{% endset %}", " | ", " ~ ", " + ", " * ", " ** ", "[0]", "[-1]", "[::2]", ".role", "(", ")"),
    *("messages", "tools", "range(99)", "tojson", "join", "replace('a', 'b')", "loop.index0", "none", "'x'", "9999"),
    *("recursive", "loop(", "is defined", "is mapping", "namespace(", "{% macro f() %}", "{% endmacro %}", "{#", "#}"),
)
_MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "m",
        "config": {"mediaType": "c", "digest": f"sha256:{'0' * 64}", "size": 3},
        "layers": [{"mediaType": "l", "digest": f"sha256:{'a' * 64}", "size": 0, "from": "x"}],
    }
)
_JSON_WORDS = ("{", "}", "[", "]", ",", ":", '"', "null", "true", "-1", "1e400", str(1 << 64), "\\ud800", '"size":')
_NAMES = ("tinychat", "a/b:c", "https://host.example:5000/a/b:c", "registry.ollama.ai/library/x:latest")


def _modelfile(text: str) -> None:
    """What is read can be written, and read again as the same."""
    commands = parse(text)
    if not any('"' in command.value for command in commands):
        assert parse(print_modelfile(commands)) == commands


def _go_template(text: str) -> None:
    messages = [Message("user", "Hi"), Message("assistant", "a", "t")]
    gotemplate.ChatTemplate.parse(text).render(Conversation(messages=messages, tools=TOOLS, think=True))


def _jinja_template(text: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}]
    JinjaTemplate(text).render(messages, [definition(tool) for tool in TOOLS])


def _manifest(text: str) -> None:
    """What is read can be written, and read again as the same."""
    found = Manifest.decode(text.encode("utf-8", "surrogatepass"))
    assert Manifest.decode(found.encode()) == found


def _name(text: str) -> None:
    found = ModelName.parse(text)
    assert ModelName.parse(found.full).parts == found.parts


def _target(read: Callable[[str], None], refusal: type[Exception], good: Sequence[str], words: Sequence[str]) -> Target:
    """Reads each text: nothing but `refusal` may come of it."""

    def run(text: str) -> None:
        with suppress(refusal):
            read(text)

    def trial(random: Random) -> Trial:
        text = broken(good, words, random)
        return Trial(text, lambda: run(text))

    return trial


_GO = [str(case["template"]) for case in RECORDED["legacy_render"]] + [RECORDED["template_K"]["template"]]

TEXTS: Mapping[str, Target] = {
    "modelfiles": _target(_modelfile, ModelfileError, [_MODELFILE], (*_MODELFILE.split(), '"""', '"', "\r", "\x00")),
    "go-templates": _target(_go_template, gotemplate.TemplateError, _GO, _GO_WORDS),
    "chat-templates": _target(_jinja_template, RenderError, _JINJA, _JINJA_WORDS),
    "manifests": _target(_manifest, ManifestError, [_MANIFEST], _JSON_WORDS),
    "names": _target(_name, InvalidName, _NAMES, ("/", ":", "..", "://", "-", "_", "@", "\n", "é", "x" * 90)),
}
"""By the names on the command line."""
