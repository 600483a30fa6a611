"""Keep-alive comments in streams, in the form that most clients skip.

A comment is a line that begins with a colon. It must not end with a blank line: OpenAI's client for Go takes that as an
event without data. Its text must not begin with `ping`: Continue takes that as the end of the stream.
"""

from __future__ import annotations

COMMENT = b": keep-alive\n"

_BROKEN_BY_COMMENTS = ("okhttp/", "req/")
"""User-Agents of libraries beneath clients that fail on comments: openai-java (TheoKanning) and openai4j on OkHttp,
LangChain for Elixir before 0.8.14 on Req. Betalgo's client for .NET sends none."""


def ping_for(user_agent: str) -> bytes:
    """The bytes that keep a silent stream of this client alive; none if they would break it."""
    return b"" if not user_agent or user_agent.lower().startswith(_BROKEN_BY_COMMENTS) else COMMENT
