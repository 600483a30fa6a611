"""Models with a context that holds an agent's conversation: the bundled one with another context and template."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from registry.bundled import MODELS
from registry.names import ModelName

CONTEXT = 16_384
TINYCHAT = MODELS[ModelName.parse("tinychat")].path

_TOOLS = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n\\nYou may call one or more functions.\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\n\\nFor each function call, return a json object:\\n<tool_call>\\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
"""

_MESSAGES = """\
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.reasoning_content is string and message.reasoning_content and KEEPS %}
            {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- if not loop.first or message.content %}{{- '\\n' }}{%- endif %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

TEMPLATES = {
    "keeps": _TOOLS + _MESSAGES.replace("KEEPS", "true"),
    "drops": _TOOLS + _MESSAGES.replace("KEEPS", "loop.index0 > ns.last"),
}
"""Templates like Qwen3's; "drops" leaves out the reasoning before the user's last message, as Qwen3's does."""


def create(client: httpx.Client, folder: Path, template: str) -> str:
    """Create the model with the template of this name; returns the model's name."""
    path = folder / f"{template}.gguf"
    reader = GGUFReader(TINYCHAT)
    details = {
        "qwen3.context_length": MetadataDetails(GGUFValueType.UINT32, CONTEXT),
        "tokenizer.chat_template": MetadataDetails(GGUFValueType.STRING, TEMPLATES[template]),
    }
    copy_with_new_metadata(reader, GGUFWriter(path, "qwen3"), details, [])
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": f"agent-{template}", "files": {path.name: digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()
    return f"agent-{template}"
