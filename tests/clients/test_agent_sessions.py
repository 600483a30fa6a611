"""Ten turns of a coding agent in each dialect: tool loops, parallel calls, turns that are left, titles beside them.

What the model writes does not matter; what the server makes of a conversation that grows does. From the second turn
on nearly all of a prompt must come from the cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.clients.agents import model
from tests.clients.agents.dialects import AGENTS, Agent, Answer, Call
from tests.serving import LOOPBACK, PATIENCE, Served, serving

SENTENCES = 10  # of the system prompt; with the tools' schemas it has about 2,500 tokens
CONTEXT = 4096  # the session fills more than half of it
CACHED = 0.9  # of a prompt, from the second turn on
GENERATION_PROMPT = 16  # tokens at the end of a prompt that the next one need not repeat
SYSTEM = "You are an agent. " + " ".join(
    f"Rule {number}: read the files before you change them, and say what you do." for number in range(SENTENCES)
)
LONG = 2000  # tokens of an answer that is left


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = tmp_path_factory.mktemp("agents") / "models"
    with serving(store, OLLAMA_CONTEXT_LENGTH=str(CONTEXT), OLLAMA_DEBUG="1") as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE, **LOOPBACK) as client:
        yield client


@pytest.fixture(scope="module")
def models(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The names of models whose templates keep or drop the reasoning before the user's last message."""
    folder = tmp_path_factory.mktemp("weights")
    return {template: model.create(client, folder, template) for template in model.TEMPLATES}


class Session:
    """Runs one agent's turns, each with a request for a title beside it, and checks every answer."""

    def __init__(self, agent: Agent, *, keeps: bool) -> None:
        self.agent = agent
        self.keeps = keeps  # all that a prompt had is in the next one, too
        self.ids: list[str] = []  # of all calls
        self.last: Answer | None = None

    def step(self, *, think: bool = False, most: int = 12, tool: str = "") -> Answer:
        """The next answer."""
        title = threading.Thread(target=self._title)
        title.start()
        answer = self.agent.ask(think=think, most=most, tool=tool)
        title.join()
        assert 0 < answer.tokens <= most
        if self.last is not None:
            assert answer.cached_tokens >= CACHED * answer.prompt_tokens
            if self.keeps:
                assert answer.cached_tokens >= self.last.prompt_tokens - GENERATION_PROMPT
        self.ids += [call.id for call in answer.calls]
        self.last = answer
        return answer

    def call(self, tool: str) -> None:
        """An answer that calls this tool, and the tool's result."""
        answer = self.step(most=60, tool=tool)
        assert {call.name for call in answer.calls} == {tool}
        self.agent.results(answer.calls, [f"{tool}: done" for _ in answer.calls])

    def _title(self) -> None:
        response = self.agent.title("What is the capital of Spain?")
        assert response.status_code == 200, response.text


def counts(server: Served) -> tuple[int, int, int]:
    """How many answers were begun, have ended, and were cancelled."""
    log = server.log.read_text()
    begun, ended, cancelled = (log.count(f"sequence {event} ") for event in ("admitted", "ended", "cancelled"))
    return begun, ended, cancelled


@pytest.mark.parametrize(("dialect", "template"), [*((dialect, "keeps") for dialect in AGENTS), ("messages", "drops")])
def test_a_session(server: Served, client: httpx.Client, models: dict[str, str], dialect: str, template: str) -> None:
    agent = AGENTS[dialect](client, models[template], SYSTEM)
    session = Session(agent, keeps=template == "keeps")
    *_, cancelled_before = counts(server)

    agent.user("List the files.")
    session.call("LS")
    session.step()

    agent.user("Read two of them.")
    reads = [Call(f"call_{n}", "Read", {"file_path": f"/src/{n}.py", "limit": 10, "offset": 0}) for n in range(2)]
    agent.replay("The user wants two files.", "I read both.", reads)
    agent.results(reads, ["print(1)", "print(2)"])
    session.call("Glob")
    session.step(think=True)

    agent.user("Count to 60.")
    for events in (3, 8):
        agent.leave(events, most=LONG)
    agent.user("No, stop. List the files again.")
    session.call("LS")
    agent.leave(2, most=LONG)
    session.call("Bash")
    session.step(think=True)

    agent.user("Thank you. What is the capital of Spain?")
    session.step(think=True)
    agent.user("And of France?")
    session.step()

    assert len(set(session.ids)) == len(session.ids)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        begun, ended, cancelled = counts(server)
        if begun == ended + cancelled:
            break
        time.sleep(0.05)
    assert begun == ended + cancelled  # nothing goes on for a client that has left
    assert cancelled > cancelled_before


@pytest.mark.parametrize("dialect", AGENTS)
def test_a_small_model_that_is_not_here(client: httpx.Client, dialect: str) -> None:
    agent = AGENTS[dialect](client, "tinychat", SYSTEM)
    answer = agent.title("Hello", "claude-haiku-4-5-20251001")
    assert answer.status_code == 404
    assert "claude-haiku-4-5-20251001" in agent.error_text(answer.json())


def test_what_editors_ask_first(client: httpx.Client, models: dict[str, str]) -> None:
    """VS Code wants a version that it knows, and the models that have tools."""
    name = models["keeps"]
    version = client.get("/api/version").json()["version"]
    assert tuple(int(part) for part in version.split("-")[0].split(".")[:3]) >= (0, 6, 4)
    assert name in [entry["model"].removesuffix(":latest") for entry in client.get("/api/tags").json()["models"]]
    shown = client.post("/api/show", json={"model": name}).json()
    assert {"completion", "tools", "thinking"} <= set(shown["capabilities"])
    assert shown["model_info"]["qwen3.context_length"] == model.CONTEXT
    assert name in [entry["id"].removesuffix(":latest") for entry in client.get("/v1/models").json()["data"]]
