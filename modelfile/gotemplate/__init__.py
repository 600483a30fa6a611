"""Go's text/template with Ollama's functions: `Template` is the language, `ChatTemplate` a model's use of it."""

from modelfile.gotemplate.chat import ChatTemplate, Conversation, Think
from modelfile.gotemplate.errors import TemplateError, TemplateExecError, TemplateLimitError, TemplateSyntaxError
from modelfile.gotemplate.limits import Limits
from modelfile.gotemplate.template import Template, infer_think_tags, tool_tag

__all__ = [
    "ChatTemplate",
    "Conversation",
    "Limits",
    "Template",
    "TemplateError",
    "TemplateExecError",
    "TemplateLimitError",
    "TemplateSyntaxError",
    "Think",
    "infer_think_tags",
    "tool_tag",
]
