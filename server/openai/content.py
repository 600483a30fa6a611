"""The content of messages: a text, or a list of parts, which are one message with texts and images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from server.http.base64_text import decode_base64
from server.http.body import Body, FieldError
from server.ollama.fields import go_type

_DATA_URL = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,")
_REMOTE = "image URLs are not currently supported, please use base64 encoded data instead"


@dataclass(frozen=True, slots=True)
class Content:
    """The texts of a message's parts, one a line, and its images, or sounds, which have the same place."""

    text: str = ""
    images: tuple[bytes, ...] = ()


def parse_content(value: Any) -> Content:
    """The content of a chat message: a text, or parts. Raises FieldError with the path of the part."""
    if isinstance(value, str):
        return Content(value)
    if not isinstance(value, list):
        raise FieldError(f"invalid message content type: {go_type(value)}")
    parts = []
    for index, part in enumerate(value):
        try:
            parts.append(_parse_part(part))
        except ValueError as error:
            raise FieldError(str(error), f"[{index}]") from None
    return join_parts(parts)


def join_parts(parts: list[Content]) -> Content:
    """The parts of a message as one content."""
    texts = [part.text for part in parts if not part.images]
    return Content("\n".join(texts), tuple(image for part in parts for image in part.images))


def _parse_part(part: Any) -> Content:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return Content(text)
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            return Content(images=(decode_image(url),))
        case {"type": "input_audio"}:
            return Content(images=(decode_audio(part.get("input_audio")),))
    raise ValueError("invalid message format")


def decode_image(url: str) -> bytes:
    """The image in a data URL. Raises ValueError for other URLs."""
    if url.startswith(("http://", "https://")):
        raise ValueError(_REMOTE)
    if (prefix := _DATA_URL.match(url)) is None:
        raise ValueError("invalid image input")
    try:
        return decode_base64(url[prefix.end() :])
    except ValueError:
        raise ValueError("invalid image input") from None


def decode_audio(audio: Any) -> bytes:
    """The sound of an `input_audio` part. Raises ValueError."""
    if not isinstance(audio, dict):
        raise ValueError("invalid input_audio format")
    if not isinstance(data := audio.get("data"), str) or not data:
        raise ValueError("invalid input_audio format: missing data")
    try:
        return decode_base64(data)
    except ValueError as error:
        raise ValueError(f"invalid input_audio base64 data: {error}") from None


# The parts as the OpenAPI document shows them; `parse_content` reads them.


class TextPart(Body):
    """A text."""

    type: Literal["text"] = "text"
    text: str = ""


class ImageURL(Body):
    """An image as a data URL."""

    url: str = ""


class ImagePart(Body):
    """An image: JPEG, PNG or WebP."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageURL | str = Field(default_factory=ImageURL)


class Audio(Body):
    """A sound in base64."""

    data: str = ""
    format: str = ""


class AudioPart(Body):
    """A sound: WAV, MP3 or FLAC; its first bytes tell which."""

    type: Literal["input_audio"] = "input_audio"
    input_audio: Audio = Field(default_factory=Audio)


Part = TextPart | ImagePart | AudioPart
ContentValue = Annotated[Content | None, PlainValidator(parse_content, json_schema_input_type=str | list[Part] | None)]
