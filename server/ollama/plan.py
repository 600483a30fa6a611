"""`POST /api/plan`: what a load would take, and where; nothing is loaded."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api import DeviceShare, LoadPlan
from registry.names import ModelName
from server.context import engine_of
from server.http.body import BodyRoute, json_response
from server.ollama.ps import device_fields
from server.ollama.schemas import ERRORS, PlanAnswer, PlanBody
from server.ollama.tokenize import required_model

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/plan", response_model=PlanAnswer)
async def plan(request: Request, body: PlanBody) -> Response:
    """Tell where a model would go and what it would take; nothing is loaded."""
    found = await engine_of(request).plan(body.request(required_model(body)))
    return json_response(_answer(found))


def _answer(plan: LoadPlan) -> dict[str, Any]:
    return {
        "model": ModelName.parse(plan.name).shortest,
        "loaded": plan.loaded,
        "fits": plan.fits,
        "refused": plan.refused,
        "context_length": plan.context_length,
        "context_requested": plan.context_requested or None,
        "parallel": plan.parallel,
        "cells": plan.cells,
        "size": plan.size,
        "size_vram": plan.size_vram,
        "prompt_cache": plan.prompt_cache,
        "embedding_size": plan.embedding_size,
        "layers": plan.layers,
        "gpu_layers": plan.gpu_layers,
        "cpu_experts": plan.cpu_experts,
        "gpus": plan.gpus,
        "devices": [_device(share) for share in plan.devices],
        "evicts": list(plan.evicts),
        "grows": plan.grows,
        "reloads": plan.reloads or None,
    }


def _device(share: DeviceShare) -> dict[str, Any]:
    sizes = {"weights": share.weights, "cache": share.cache, "compute": share.compute, "other": share.other}
    sizes["prompt_cache"] = share.prompt_cache
    return {**device_fields(share), "total": share.total, "free": share.free, **sizes}
