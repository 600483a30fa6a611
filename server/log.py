"""The server's log: one line for each thing, on standard error."""

from __future__ import annotations

import logging
import time

_LEVELS = {0: logging.INFO, 1: logging.DEBUG}


def configure(debug: int) -> None:
    """Set up the log of the process. `debug` is OLLAMA_DEBUG's value: 0 info, 1 debug, 2 everything."""
    formatter = logging.Formatter("time=%(asctime)s.%(msecs)03dZ level=%(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS.get(debug, logging.DEBUG))
    quiet = logging.WARNING if debug < 2 else logging.DEBUG
    for name in ("uvicorn", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(quiet)
