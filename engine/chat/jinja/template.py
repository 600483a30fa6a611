"""A model's chat template: the Jinja text in its GGUF header, rendered as transformers and llama.cpp do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2

from engine.chat.jinja.messages import CHATML, LARGEST
from engine.chat.jinja.sandbox import RenderBudget, allowance, budget, environment, too_much
from engine.chat.prompt import RenderError

__all__ = ["CHATML", "JinjaTemplate", "RenderError"]


class JinjaTemplate:
    """A chat template and its special tokens. Compiled at first use; `render` is safe from any thread."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self.source = source
        self.bos = bos
        self.eos = eos

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        seconds: float | None = None,
        **variables: Any,
    ) -> str:
        """The prompt for these messages, up to where the answer begins. Raises RenderError.

        The template may change `messages` and `tools`: do not use them again. It may take `seconds` of CPU time, or as
        the context variable `allowance` says.
        """
        now = datetime.now()
        context: dict[str, Any] = {
            "messages": messages,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "add_generation_prompt": True,
            "date_string": now.strftime("%d %b %Y"),
            "datetime": now.strftime("%b %d %Y"),
        }
        if tools:  # for some templates an empty list is reason enough to mention tools
            context["tools"] = tools
        return self._run(context | variables, allowance.get() if seconds is None else seconds)

    def _run(self, variables: dict[str, Any], seconds: float) -> str:
        """Render within `seconds` of CPU time; any error of the template becomes a RenderError."""
        token = budget.set(RenderBudget(seconds))
        parts, size = [], 0
        try:
            for part in self._template.generate(variables):
                size += len(part)
                if size > LARGEST:
                    raise too_much("makes too much text")
                parts.append(part)
        except jinja2.TemplateError as error:
            raise RenderError(f"chat template: {error.message}") from error
        except RenderError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RenderError(f"chat template: {error}") from error
        finally:
            budget.reset(token)
        return "".join(parts)

    @property
    def _template(self) -> jinja2.Template:
        if isinstance(self._compiled, str):
            raise RenderError(f"chat template: {self._compiled}")
        return self._compiled

    @cached_property
    def _compiled(self) -> jinja2.Template | str:
        """The compiled template, or why it cannot be parsed. Cached in either case, as both may take long."""
        try:
            return environment.from_string(self.source)
        except jinja2.TemplateError as error:
            return str(error.message)
        except (RecursionError, OverflowError, MemoryError, SyntaxError):
            return "too deeply nested"
