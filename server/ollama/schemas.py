"""Request bodies of `/api/*`. `name` is accepted for `model` everywhere; `model` wins."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from engine.api import ChatRequest, GenerateRequest
from server.http.body import FIRST_ERROR, Body, go_list
from server.ollama.fields import Choice, Format, Images, Int, KeepAlive, Messages, Options, ThinkValue, Tools


class Named(Body):
    """A body that names a model."""

    model: str = ""
    name: str = ""

    @property
    def model_name(self) -> str:
        """The name as it was sent."""
        return self.model or self.name


class InferenceBody(Named):
    """What generate and chat have in common."""

    stream: bool = True
    format: Format = None
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)
    think: ThinkValue = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: Int = 0
    debug_render_only: bool = Field(default=False, alias="_debug_render_only")

    def shared(self) -> dict[str, Any]:
        """The engine request's fields that generate and chat have in common."""
        return {
            "model": self.model_name,
            "options": dict(self.options),
            "keep_alive": self.keep_alive,
            "think": self.think,
            "format": self.format,
            "truncate": self.truncate,
            "shift": self.shift,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
        }


Context = Annotated[list[Int], FIRST_ERROR, go_list("[]int", 0)]


class GenerateBody(InferenceBody):
    """`POST /api/generate`."""

    go: ClassVar[str] = "api.GenerateRequest"

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: Context | None = None
    raw: bool = False
    images: Images = ()

    def request(self) -> GenerateRequest:
        """What the engine is asked."""
        return GenerateRequest(
            **self.shared(),
            prompt=self.prompt,
            suffix=self.suffix,
            system=self.system,
            template=self.template,
            raw=self.raw,
            context=self.context,
            images=self.images,
        )


class ChatBody(InferenceBody):
    """`POST /api/chat`."""

    go: ClassVar[str] = "api.ChatRequest"

    messages: Messages = Field(default_factory=list)
    tools: Tools = Field(default_factory=list)
    tool_choice: Choice = "auto"

    def request(self) -> ChatRequest:
        """What the engine is asked."""
        return ChatRequest(
            **self.shared(),
            messages=[message.message() for message in self.messages],
            tools=tuple(tool.tool for tool in self.tools),
            tool_choice=self.tool_choice,
        )


class EmbedBody(Named):
    """`POST /api/embed`."""

    go: ClassVar[str] = "api.EmbedRequest"

    input: Any = None
    truncate: bool = True
    dimensions: Int = 0
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class EmbeddingsBody(Named):
    """`POST /api/embeddings`."""

    go: ClassVar[str] = "api.EmbeddingRequest"

    prompt: str = ""
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class ShowBody(Named):
    """`POST /api/show`."""

    go: ClassVar[str] = "api.ShowRequest"

    system: str = ""
    template: str = ""
    verbose: bool = False
    options: Options = Field(default_factory=dict)


class CopyBody(Body):
    """`POST /api/copy`."""

    go: ClassVar[str] = "api.CopyRequest"

    source: str = ""
    destination: str = ""


class DeleteBody(Named):
    """`DELETE /api/delete`."""

    go: ClassVar[str] = "api.DeleteRequest"


class PullBody(Named):
    """`POST /api/pull`."""

    go: ClassVar[str] = "api.PullRequest"

    insecure: bool = False
    stream: bool = True


class PushBody(PullBody):
    """`POST /api/push`."""

    go: ClassVar[str] = "api.PushRequest"
