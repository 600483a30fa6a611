"""Thin routes: parse, call the engine, format."""

from server.anthropic import messages
from server.ollama import cloud, create, embed, inference, manage, meta, show, transfer
from server.openai import embeddings, models

ROUTERS = tuple(
    module.router
    for module in (meta, inference, show, manage, create, transfer, embed, models, embeddings, messages, cloud)
)
