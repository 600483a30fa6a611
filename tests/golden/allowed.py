"""All differences from what a real Ollama answered that tests let pass, each with its reason.

Where an answer differs on purpose throughout, the recording itself has been changed to ours: `recorded` names these
recordings, so that they are on the list too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST = 20
"""Entries of the list."""
_HINT = "input is not supported - hint: if this is unexpected, you may need to provide the mmproj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A difference and its reason.

    `keys` may stand in our answers where Ollama has none, `left_out` are metadata of converted files that we do not
    write. `recorded` are patterns (`fnmatch`) of recordings that were changed: `FILE:ID`. `answers` are those about
    pictures and sounds: by the request, our status and how the answer begins.
    """

    difference: str
    reason: str
    keys: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    recorded: tuple[str, ...] = ()
    answers: Mapping[str, tuple[int, str]] = field(default_factory=dict)


ALLOWED = (
    Allowed(
        difference="final objects tell how many tokens of the prompt were cached, and how many were cut out of it",
        reason="clients cannot know it otherwise; Ollama cuts prompts silently",
        keys=frozenset({"prompt_eval_cached", "prompt_eval_cached_count", "prompt_truncated"}),
    ),
    Allowed(
        difference="`/v1/messages` has `signature` and `stop_sequence`",
        reason="Anthropic's clients require them",
        keys=frozenset({"signature", "stop_sequence"}),
    ),
    Allowed(
        difference="`/v1/chat/completions` has `reasoning_content` and `prompt_tokens_details`",
        reason="the names by which other servers and OpenAI tell of reasoning and cached tokens",
        keys=frozenset({"reasoning_content", "prompt_tokens_details"}),
    ),
    Allowed(
        difference="`/api/ps` tells each device and the prompt cache",
        reason="what a model takes is not one number where it is on several devices",
        keys=frozenset({"devices", "prompt_cache"}),
    ),
    Allowed(
        difference="values of a wrong type, digests, templates and blobs that are none, weights quantized twice: 400",
        reason="they are the caller's mistakes; Ollama says 500, or stores a parameter that does not work",
        recorded=(
            *("http.json:create-bad-param", "http.json:create-missing-blob", "http.json:create-bad-digest"),
            *("http.json:create-quant-of-quant", "http.json:gen-template-bad", "http.json:gen-opt-type-temp"),
            *("create-probes.json:rq-license-type", "create-probes.json:rq-quantize-quantized"),
        ),
    ),
    Allowed(
        difference="`suffix` works with weights that know its tokens",
        reason="Ollama refuses it unless a Go template has it",
        recorded=("http.json:v1-completions-suffix",),
    ),
    Allowed(
        difference="`/api/generate` splits thinking from the answer",
        reason="as `/api/chat` does; Ollama leaves the tags in the text",
        recorded=("http.json:gen", "http.json:gen-*"),
    ),
    Allowed(
        difference="earlier reasoning stays in the prompt of a tool loop",
        reason="the models' own templates ask for it; Ollama leaves it out",
        recorded=("prompts.json:*:calltwo:*",),
    ),
    Allowed(
        difference="weights that were uploaded keep their digest, and are not verified by conversion",
        reason="the bytes are kept as they came; Ollama writes them anew",
        recorded=("http.json:create-tinychat", "create-probes.json:*"),
    ),
    Allowed(
        difference="`/api/show` and `/api/tags` list all capabilities, `insert` and those of chat templates too",
        reason="clients choose models by them",
        recorded=("shown.json:*", "http.json:tags"),
    ),
    Allowed(
        difference="converted files lack two entries of metadata, and have others",
        reason="llama.cpp does not read those; these are what its own converter writes",
        left_out=frozenset({"tokenizer.ggml.cls_token_id", "tokenizer.ggml.scores"}),
    ),
    Allowed(
        difference="the first picture of an animation is read",
        reason="Ollama refuses such files with a 500",
        answers={"file animated.webp": (200, "R%;IR%$in")},
    ),
    Allowed(
        difference="photographs are turned upright, and transparent pictures are on white",
        reason="so people see them",
        answers=dict.fromkeys(("file exif6.jpg", "file alpha.png", "chat file exif6.jpg"), (200, "")),
    ),
    Allowed(
        difference="files that are damaged or of no usual format are refused",
        reason="a model would describe what is not there",
        answers=dict.fromkeys(("file truncated.jpg", "file checker.ppm"), (400, "Failed to load image or audio file")),
    ),
    Allowed(
        difference="pictures of an extreme shape are refused",
        reason="nothing can be seen on them once they have the model's size",
        answers={
            "file thin.png": (
                400,
                "image has an extreme shape: 1000 x 2 pixels, one side may be at most 200 times as long as",
            )
        },
    ),
    Allowed(
        difference="tokens of a picture that see one another are computed in one pass",
        reason="Ollama cuts them at `num_batch`; the answer is its own with `num_batch` 1024",
        answers={"gemma3wide: 784 tokens that see one another": (200, "I+an%u-D)")},
    ),
    Allowed(
        difference="pictures and sounds that a model cannot take are a 400 that says so",
        reason="it is the caller's mistake; Ollama says 500, or that the file is bad",
        answers={
            **dict.fromkeys(
                ("file tone.wav", "file tone880.wav", "chat file tone.wav", "openai input_audio"),
                (400, f"audio {_HINT}"),
            ),
            **dict.fromkeys(
                ("blind chat", "ultravox with an image", "ultravox chat with an image"), (400, f"image {_HINT}")
            ),
        },
    ),
    Allowed(
        difference="a message of several parts is one message",
        reason="Ollama makes a message of each part, which templates answer in another way",
        answers=dict.fromkeys(("openai image_url", "openai image first", "openai no type", "openai audio"), (200, "")),
    ),
)

ADDITIONS = frozenset[str]().union(*(each.keys for each in ALLOWED))
"""Keys that an old client ignores: allowed where Ollama has none."""
LEFT_OUT = frozenset[str]().union(*(each.left_out for each in ALLOWED))
ANSWERS = {request: answer for each in ALLOWED for request, answer in each.answers.items()}
