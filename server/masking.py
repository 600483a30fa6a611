"""Settings and texts as they may be shown: without secrets. Used by the log of the start and by `pronk doctor`."""

from __future__ import annotations

import re

MASK = "***"
_SECRET = re.compile(r"_(TOKEN|KEYS?|SECRET|PASSWORD)$", re.IGNORECASE)
_NO_SECRETS = ("PRONK_REQUIRE_API_KEYS",)
_LOGIN = re.compile(r"(?:(?<=//)\S+|[^/\s]+)@")


def shown(name: str, text: str) -> str:
    """The value of a variable. Secrets are masked whole, in URLs the user and the password."""
    secret = _SECRET.search(name) and name.upper() not in _NO_SECRETS
    return MASK if secret else without_logins(text)


def without_logins(text: str) -> str:
    """The text with users and passwords in its URLs masked."""
    return _LOGIN.sub(f"{MASK}@", text)
