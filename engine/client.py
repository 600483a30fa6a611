"""Who asks."""

Client = tuple[str, str]
"""Whose request it is, and by which program of theirs: they take turns. Neither is shown to anybody."""

NOBODY: Client = ("", "")
