"""Pictures and sounds that a message names by their files: typed, pasted, or dropped onto the terminal."""

from __future__ import annotations

import os.path
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cli.arguments import CommandError
from cli.input import bounded

# Kinds that the server refuses are here too: an error is better than an answer by a model that was shown nothing.
IMAGES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif")
SOUNDS = ("wav", "mp3", "flac")
LONGEST = 1024  # characters of a path in a message
MOST_TOLD = 3  # names of no file
MOST_ENDS = 4  # places where a path may end that are tried, nearest first

_START = re.compile(r"(?:^|(?<=\s))([\"']?)(?=\S)")
_KINDS = "|".join((*IMAGES, *SOUNDS))
_END = re.compile(rf"\.(?:{_KINDS})(?![\w/\\])", re.IGNORECASE)
_NAME = re.compile(rf"(?<!\S)[\"']?([^\s\"']+\.(?:{_KINDS}))(?![\w/\\]|\.\w)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file and its content."""

    path: Path
    content: bytes

    @property
    def kind(self) -> str:
        """What the file's name says that it is."""
        return "audio" if self.path.suffix.lower()[1:] in SOUNDS else "image"


def attach(text: str) -> tuple[str, list[Attachment]]:
    """The files that a message names, and the message without their names.

    Names may be quoted, have blanks, or be escaped as a shell does it. What names no file stays text, which is told
    on standard error. Raises CommandError for a file that cannot be read.
    """
    kept, attachments, position = [], [], 0
    for start, end, path in _named_files(text):
        kept.append(text[position:start])
        attachments.append(read(path))
        position = end
    rest = "".join([*kept, text[position:]])
    for name in _NAME.findall(rest)[:MOST_TOLD]:
        print(f"There is no file '{name}'", file=sys.stderr)
    return rest.strip() if attachments else text, attachments


def tell_of_files(text: str) -> None:
    """Say on standard error that the files that a message names are not shown to the model, which takes none."""
    for path in [str(path) for _, _, path in _named_files(text)][:MOST_TOLD]:
        print(f"'{path}' is not shown: the model takes no pictures and no sounds", file=sys.stderr)


def is_shown(name: str) -> bool:
    """Whether a completed path may lead to a file that models are shown: a folder, a picture or a sound."""
    return os.path.isdir(name) or os.path.splitext(name)[1][1:].lower() in (*IMAGES, *SOUNDS)


def begins_with_file(text: str) -> bool:
    """Whether a message begins with the name of a file, as one does that is dropped onto the terminal."""
    return next((start for start, _, _ in _named_files(text)), -1) == 0


def read(path: Path) -> Attachment:
    """A file with its content; says so on standard error. Raises CommandError."""
    try:
        with path.open("rb") as file:
            attachment = Attachment(path, b"".join(bounded(file.read, str(path))))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    print(f"Added {attachment.kind} '{path}'", file=sys.stderr)
    return attachment


def _named_files(text: str) -> Iterator[tuple[int, int, Path]]:
    """Where in a text files are named, quotes included, and their paths."""
    ends = [match.end() for match in _END.finditer(text)]
    position = 0
    for match in _START.finditer(text) if ends else ():
        quote, first = match[1], match.end()
        if first < position:
            continue
        nearest = bisect_right(ends, first)
        for end in ends[nearest : nearest + MOST_ENDS]:
            if end > first + LONGEST:
                break
            if text.startswith(quote, end) and (path := _file(text[first:end])) is not None:
                position = end + len(quote)
                yield match.start(), position, path
                break


def _file(name: str) -> Path | None:
    """The file that a name means, if there is one: the name itself, or without a shell's escapes, or of a URL."""
    names = [name, _ESCAPED.sub(r"\1", name)]
    if name.startswith("file://"):
        names = [unquote(urlsplit(name).path)]
    for candidate in names:
        try:
            path = Path(candidate).expanduser()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a NUL byte
            continue
    return None
