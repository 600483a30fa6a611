"""Why a model is unloaded: one value, with its label in metrics and its text in the log."""

from __future__ import annotations

from enum import Enum


class UnloadReason(Enum):
    """Each has a `label` for metrics and a `text` for the log."""

    IDLE = "idle", "idle for its keep_alive"
    REQUESTED = "requested", "stopped by a request"
    OPTIONS = "options", "a request wants other options"
    ROOM_FOR_MODEL = "room_for_model", "room for another model"
    ROOM_FOR_CONTEXT = "room_for_context", "room for a longer context"
    OUT_OF_MEMORY = "out_of_memory", "out of memory"
    DELETED = "deleted", "no model has these weights any more"
    SERVER_STOPS = "stopped", "the server stops"
    CRASHED = "crashed", "its process ended by itself"

    def __init__(self, label: str, text: str) -> None:
        self.label = label
        self.text = text
