"""What is told of a load for which memory is short."""

from __future__ import annotations

import logging

from engine.loading.placement import Placement
from registry.logfields import fields

LARGE = "the model is larger than this machine's memory: parts of its file are read again for each answer"
BUSY = "the model takes more memory than is free now: others are using it"
GPU = "the model takes more memory of a GPU than is free now"
log = logging.getLogger("pronk.engine")


def warn(model: str, placement: Placement) -> None:
    """Log one line about a load that is tried although not all of it fits; `model` is its name."""
    machine, host = round(placement.sums(lambda share: share.size)[1]), placement.host.device
    values: dict[str, int | str] = {"bytes": machine, "own_bytes": placement.own}
    if machine > host.free:
        text = LARGE if machine > host.total else BUSY
        values |= {"free_bytes": host.free, "memory_bytes": host.total}
    else:
        share = next(share for share in placement.gpus if share.size > share.device.free)
        text, device = GPU, share.device
        values = {"bytes": share.size, "device": device.handle, "free_bytes": device.free, "memory_bytes": device.total}
    log.warning("memory is short: %s", text, extra=fields(model=model, **values))
