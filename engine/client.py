"""Who a request comes from, as far as fairness between clients needs to know."""

from __future__ import annotations

from contextvars import ContextVar

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client of the request that is being answered: by its address, and by its key where it shows one."""
