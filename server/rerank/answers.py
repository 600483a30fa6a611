"""Rankings as the APIs write them: the best document first, as many as were asked for."""

from __future__ import annotations

import math
import time
import uuid
from typing import Any

from engine.api import Ranked
from server.http.json_output import encode
from server.rerank.schemas import RerankBody

_DIGITS = ".9g"  # enough to tell any two float32 apart


def own(body: RerankBody, model: str, ranked: Ranked, started: int) -> bytes:
    """Pronk's own answer. `started` is when the request came, in `perf_counter_ns` time."""
    durations = {"total_duration": time.perf_counter_ns() - started, "load_duration": ranked.load_duration}
    return encode({**_ranking(body, model, ranked), **durations, "prompt_eval_count": ranked.prompt_eval_count})


def jina(body: RerankBody, model: str, ranked: Ranked) -> bytes:
    """The answer for clients of Jina and of Cohere."""
    return encode({"id": str(uuid.uuid4()), **_ranking(body, model, ranked), "meta": _meta(ranked)})


def tei(body: RerankBody, _: str, ranked: Ranked) -> bytes:
    """The answer for clients of TEI: a list."""
    return encode([_tei_result(body, place, score) for place, score in _best(body, ranked)])


def _ranking(body: RerankBody, model: str, ranked: Ranked) -> dict[str, Any]:
    tokens = ranked.prompt_eval_count
    return {
        "model": model,
        "object": "list",
        "results": [_result(body, ranked, place, score) for place, score in _best(body, ranked)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _best(body: RerankBody, ranked: Ranked) -> list[tuple[int, float]]:
    """Places and scores of the documents; equal scores keep the order of the request."""
    scores = ranked.scores
    places = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    as_it_is = body.raw_scores or ranked.probabilities
    return [(place, scores[place] if as_it_is else _sigmoid(scores[place])) for place in places]


def _sigmoid(logit: float) -> float:
    """From a logit to a number between 0 and 1."""
    power = math.exp(-abs(logit))
    return 1 / (1 + power) if logit >= 0 else power / (1 + power)


def _result(body: RerankBody, ranked: Ranked, place: int, score: float) -> dict[str, Any]:
    document = {"document": {"text": body.all_documents[place]}} if body.return_documents else {}
    truncated = {"truncated": True} if place in ranked.cut else {}
    return {"index": place, "relevance_score": _rounded(score), **document, **truncated}


def _tei_result(body: RerankBody, place: int, score: float) -> dict[str, Any]:
    text = {"text": body.all_documents[place]} if body.return_text else {}
    return {"index": place, "score": _rounded(score), **text}


def _rounded(score: float) -> float:
    return float(format(score, _DIGITS))


def _meta(ranked: Ranked) -> dict[str, Any]:
    count = len(ranked.cut)
    warning = f"{count} of the documents did not fit and were cut; results name those in the answer as truncated"
    return {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": ranked.prompt_eval_count, "output_tokens": 0},
        **({"warnings": [warning]} if count else {}),
    }
