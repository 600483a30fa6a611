"""Keep-alive comments, by client."""

import pytest

from server.openai.pings import ping_for


@pytest.mark.parametrize("agent", ["OpenAI/Python 3.57.0", "OpenAI/Go 1.2", "node", "curl/8.5.0", "Go-http-client/1.1"])
def test_a_comment_on_a_line_of_its_own(agent: str) -> None:
    ping = ping_for(agent)
    assert ping.startswith(b": ")
    assert not ping.startswith(b": ping")
    assert ping.count(b"\n") == 1
    assert ping.endswith(b"\n")


@pytest.mark.parametrize("agent", ["okhttp/4.9.3", "req/0.5.8", ""])
def test_none_for_clients_that_would_break(agent: str) -> None:
    assert ping_for(agent) == b""
