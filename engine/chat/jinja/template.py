"""A model's own chat template: the Jinja text in its GGUF header, rendered as transformers and llama.cpp do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2

from engine.chat.jinja.messages import CHATML, LARGEST
from engine.chat.jinja.sandbox import Budget, allowance, budget, environment, too_much
from engine.chat.prompt import TemplateError

__all__ = ["CHATML", "ChatTemplate", "TemplateError"]


class ChatTemplate:
    """A chat template with its special tokens. Compiled when first used; `render` may be called from any thread."""

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
        """The prompt for these messages, with the opening of the answer. Raises TemplateError, also for hostile ones.

        The caller must not use `messages` and `tools` again: a template may change them. `seconds` of CPU time are
        the most that it may take, `allowance` if None.
        """
        now = datetime.now()
        given: dict[str, Any] = {
            "messages": messages,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "add_generation_prompt": True,
            "date_string": now.strftime("%d %b %Y"),
            "datetime": now.strftime("%b %d %Y"),
        }
        if tools:  # some templates take an empty list for a reason to talk about tools
            given["tools"] = tools
        return self._run(given | variables, allowance.get() if seconds is None else seconds)

    def _run(self, variables: dict[str, Any], seconds: float) -> str:
        token = budget.set(Budget(seconds))
        parts, size = [], 0
        try:
            for part in self._template.generate(variables):
                size += len(part)
                if size > LARGEST:
                    raise too_much("makes too much text")
                parts.append(part)
        except jinja2.TemplateError as error:
            raise TemplateError(f"chat template: {error.message}") from error
        except TemplateError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise TemplateError(f"chat template: {error}") from error
        finally:
            budget.reset(token)
        return "".join(parts)

    @property
    def _template(self) -> jinja2.Template:
        if isinstance(self._compiled, str):
            raise TemplateError(f"chat template: {self._compiled}")
        return self._compiled

    @cached_property
    def _compiled(self) -> jinja2.Template | str:
        """The template, or why it cannot be read: finding that out may take as long."""
        try:
            return environment.from_string(self.source)
        except jinja2.TemplateError as error:
            return str(error.message)
        except (RecursionError, OverflowError, MemoryError, SyntaxError):
            return "too deeply nested"
