"""Bodies of llama.cpp's server that differ from those of `/api/*`: messages are as OpenAI's clients send them."""

from __future__ import annotations

from engine.api import ChatRequest
from server.ollama.schemas import TextBody
from server.openai.messages import ChatMessages, conversation_of


class ServerTokenizeBody(TextBody):
    """`POST /tokenize`: a text, or messages."""

    messages: ChatMessages | None = None

    def chat(self, model: str) -> ChatRequest | None:
        """The conversation for the engine, None if there is none."""
        return None if self.messages is None else self.conversation(model, conversation_of(self.messages))
