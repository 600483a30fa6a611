"""The mixed traffic: the same for every server, of every kind, and done whole."""

from __future__ import annotations

from bench.traffic import FRESH, KINDS, STEADY, mix


def test_it_is_always_the_same() -> None:
    assert mix(50, 900) == mix(50, 900)
    assert mix(50, 900)[:20] == mix(20, 900)


def test_it_has_every_kind_and_all_prompts_differ() -> None:
    jobs = mix(320, 900)
    assert {job.kind for job in jobs} == set(KINDS)
    assert len({job.key for job in jobs}) == len(jobs) == 320
    assert {job.seed is None for job in jobs} == {True, False}
    assert all(2 <= len(job.words) <= 4 if job.kind == "chat" else len(job.words) == 1 for job in jobs)


def test_it_can_do_without_embeddings() -> None:
    whole = mix(100, 900)
    assert mix(100, 900, embeddings=False) == [job for job in whole if job.kind != "embedding"]


def test_prompts_have_a_limit() -> None:
    assert max(sum(job.words) for job in mix(320, 120)) <= 120


def test_no_two_phases_share_rounds() -> None:
    assert not set(FRESH.turns(500)) & set(STEADY.turns(500))
    assert list(STEADY.turns(2)) == [1000, 1001]
