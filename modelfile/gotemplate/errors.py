"""Errors of templates.

TemplateError               the text is for the user
├── TemplateSyntaxError     the template cannot be parsed
└── TemplateExecError       the template cannot be executed on these values
    └── TemplateLimitError  it exceeds the limit of steps, text or nesting
"""

from __future__ import annotations


class TemplateError(ValueError):
    """A template cannot be used; `str()` is Go's own text where Go has one."""


class TemplateSyntaxError(TemplateError):
    """The template cannot be parsed."""


class TemplateExecError(TemplateError):
    """The template cannot be executed on these values; its output is void."""


class TemplateLimitError(TemplateExecError):
    """The template was stopped: templates come with models and requests, so they are untrusted programs."""
