"""What can be wrong with a template.

TemplateError               the text is for the user
├── TemplateSyntaxError     the template cannot be parsed
└── TemplateExecError       the template cannot be executed on these values
    └── TemplateLimitError  it wants more steps, text or nesting than it may have
"""

from __future__ import annotations


class TemplateError(ValueError):
    """A template is of no use; `str()` is Go's own text where Go has one."""


class TemplateSyntaxError(TemplateError):
    """The template cannot be parsed."""


class TemplateExecError(TemplateError):
    """The template cannot be executed on these values; nothing of its output is to be used."""


class TemplateLimitError(TemplateExecError):
    """The template was stopped: templates come with model files and requests, so they are programs of strangers."""
