"""Go's text/template with Ollama's functions: `Template` is the language, `ChatTemplate` what models make of it."""

from modelfile.gotemplate.chat import ChatTemplate, Conversation, Think
from modelfile.gotemplate.errors import TemplateError, TemplateExecError, TemplateLimitError, TemplateSyntaxError
from modelfile.gotemplate.inspection import infer_think_tags, tool_tag
from modelfile.gotemplate.limits import Limits
from modelfile.gotemplate.messages import Message, ToolCall
from modelfile.gotemplate.template import Template
from modelfile.gotemplate.tools import Property, Tool

__all__ = [
    "ChatTemplate",
    "Conversation",
    "Limits",
    "Message",
    "Property",
    "Template",
    "TemplateError",
    "TemplateExecError",
    "TemplateLimitError",
    "TemplateSyntaxError",
    "Think",
    "Tool",
    "ToolCall",
    "infer_think_tags",
    "tool_tag",
]
