"""Whether a registry or hub can be reached from here, by the way that pulls take."""

from __future__ import annotations

import asyncio

import httpx

from registry.errors import RegistryError, Stalled, Unreachable
from registry.transport import Network, Transport


async def answered(url: str, network: Network, seconds: float) -> int:
    """The status of whatever answers at a URL within some seconds. Any answer will do: most want to know who asks.

    Raises RegistryError.
    """
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise RegistryError("this is no URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise RegistryError("this is no URL of a registry")
    try:
        async with (
            asyncio.timeout(seconds),
            Transport(target, network) as transport,
            transport.send("GET", target, {}, redirects=0) as response,
        ):
            return response.status_code
    except TimeoutError:
        raise Stalled(f"no answer within {seconds:g} seconds") from None
    except OSError as error:
        raise Unreachable(error.strerror or str(error)) from None
