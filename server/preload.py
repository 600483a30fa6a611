"""The models that PRONK_PRELOAD names: loaded at the start, so that first requests need not wait for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from engine.api import PreloadRequest
from registry.logfields import fields
from server.context import EngineSurface
from server.http.errors import KNOWN, message_of

log = logging.getLogger("pronk.server")


class Preload:
    """Loads models in their order. One that cannot be loaded is a warning, and none is unloaded for another.

    `run` it once, after the start of the engine. Requests are served meanwhile.
    """

    def __init__(self, engine: EngineSurface, names: Sequence[str]) -> None:
        self._engine = engine
        self._left = list(dict.fromkeys(names))

    @property
    def unready(self) -> str:
        """Which models are still to be loaded, in a line; "" once none is."""
        return f"models are being loaded: {', '.join(self._left)}" if self._left else ""

    async def run(self) -> None:
        """Load all of them."""
        if not self._left:
            return
        log.info("preloading", extra=fields(models=", ".join(self._left)))
        started, loaded = time.monotonic(), []
        try:
            while self._left:
                if await self._load(self._left[0]):
                    loaded.append(self._left[0])
                del self._left[0]
        finally:
            self._left.clear()
        seconds = time.monotonic() - started
        log.info("preloaded", extra=fields(models=", ".join(loaded) or None, seconds=seconds))

    async def _load(self, name: str) -> bool:
        try:
            await self._engine.load(PreloadRequest(model=name))
        except OSError as error:
            reason = str(error)
        except KNOWN as error:
            reason = message_of(error)
        else:
            return True
        log.warning("not preloaded", extra=fields(model=name, reason=reason))
        return False
