"""Everything the engine can refuse or fail with. No HTTP here: `server/http/errors.py` maps each type to a status.

EngineError
├── InvalidRequest          the caller's mistake; the message says which
│   └── ContextExceeded     the prompt does not fit the context
├── ModelNotFound           no such model in the store
├── CapabilityMissing       the model cannot do what was asked
├── CloudModel              the name asks for a model that runs elsewhere
├── ServerBusy              a queue is full
├── LoadFailed              the model could not be loaded
│   ├── ModelTooLarge       this machine has less memory than it takes
│   ├── OutOfMemory         there was no memory for it
│   └── LoadCrashed         its process crashed
├── RunnerDied              the model's process ended while requests ran in it
├── RunnerError             the model's process reported a failure
├── AnswerUnread            nobody has read the answer, and others waited for its place
└── EngineStopped           the server is shutting down
"""

from registry.sizes import short_size

PROMPT_TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


def context_exceeded(tokens: int, limit: int) -> str:
    """What a user reads whose prompt has too many tokens for a context of `limit`."""
    return f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it"


class EngineError(Exception):
    """Base of all engine errors; `str()` is the text a user reads.

    `field` is the field of the request at fault, as `engine.api` calls it, "" if there is none such. Where the text
    has that name too, it begins with it, behind `invalid` at most. A prompt that is too long has "prompt", whatever it
    was made of.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class InvalidRequest(EngineError):
    """The request contradicts itself or the model."""


class ContextExceeded(InvalidRequest):
    """The prompt is longer than the context and may not be cut: `tokens` that it has, and the `limit`; 0 if unknown."""

    def __init__(self, text: str, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(text, "prompt")
        self.tokens = tokens
        self.limit = limit


class ModelNotFound(EngineError):
    """The name is well formed but nothing is stored under it. `name` is the name as it was sent."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")
        self.name = name


class CapabilityMissing(EngineError):
    """The model lacks a capability that the request needs."""


class CloudModel(EngineError):
    """The name asks for a cloud model; this server runs local models only."""

    def __init__(self) -> None:
        super().__init__("ollama cloud is disabled: remote model is unavailable")


class ServerBusy(EngineError):
    """A queue is full: for loads, schemas, grammars or chat templates. The client may try again later."""

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class LoadFailed(EngineError):
    """The model could not be loaded."""


class ModelTooLarge(LoadFailed):
    """The model takes more memory than the machine or its container has in all, in bytes."""

    def __init__(self, needed: int, available: int) -> None:
        sizes = f"({short_size(needed)}) than is available ({short_size(available)})"
        super().__init__(f"model requires more system memory {sizes}")


class ModelReplaced(LoadFailed):
    """The model could not be loaded because its files have gone meanwhile: its name may lead to others by now."""


class OutOfMemory(LoadFailed):
    """There was no memory for the model; with less beside it, or in a leaner way, it might be loaded."""


class LoadCrashed(LoadFailed):
    """The process that was to load the model crashed, by a defect of the model or the library.

    `cause` names the signal; `model_sent`: the process had been told which model to load.
    """

    def __init__(self, text: str, cause: str, *, model_sent: bool = True) -> None:
        super().__init__(text)
        self.cause = cause
        self.model_sent = model_sent


class RunnerDied(EngineError):
    """The model's process ended while requests ran in it.

    `crashed`: by a defect of the model or the library; `killed`: something else has ended it, which is not ours.
    """

    def __init__(self, detail: str = "", *, crashed: bool = False, killed: bool = False) -> None:
        text = (
            "model runner has unexpectedly stopped, this may be due to resource limitations "
            "or an internal error, check ollama server logs for details"
        )
        super().__init__(f"{text}: {detail}" if detail else text)
        self.detail = detail
        self.crashed = crashed
        self.killed = killed


class RunnerError(EngineError):
    """The model's process reported a failure of one request and lives on."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"an error was encountered while running the model: {detail}")


class AnswerUnread(EngineError):
    """An answer was cancelled because nothing of it was read for so many seconds, and others waited for its place."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"answer cancelled: nothing of it was read for {seconds:.0f} s, and other requests wait")


class EngineStopped(EngineError):
    """The engine is shutting down: it ends all requests and accepts none."""

    def __init__(self) -> None:
        super().__init__("server is shutting down")
