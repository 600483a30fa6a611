"""Thin routes: parse, call the engine, format."""

from server.routes import (
    anthropic,
    cloud,
    create,
    embed,
    inference,
    manage,
    meta,
    openai,
    openai_embeddings,
    show,
    transfer,
)

ROUTERS = tuple(
    module.router
    for module in (meta, inference, show, manage, create, transfer, embed, openai, openai_embeddings, anthropic, cloud)
)
