"""GLM's calls: `<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`, also Ling's and Laguna's."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup
from engine.chat.tools.shape import LINE, ArgumentShape, CallShape, bare_name

GLM = Markup(
    "<tool_call>",
    "</tool_call>",
    "</arg_value>",
    re.compile(r"<tool_call>\s*(?P<name>[\w.:/-]+)\s*(?P<body>(?:<arg_key>.*)?)(?:</tool_call>|\Z)", re.DOTALL),
    # Closing tags that the model forgot are made up for.
    re.compile(
        r"<arg_key>(?P<name>[^<]*)(?:</arg_key>\s*)?"
        r"<arg_value>\n?(?P<value>.*?)\n?(?:</arg_value>|(?=<arg_key>)|(?=</tool_call>)|\Z)",
        re.DOTALL,
    ),
)

ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

GLM_CALLS = CallShape(
    GLM.opening,
    LINE,
    GLM.closing,
    between=LINE,
    arguments=ArgumentShape("<arg_key>", f"</arg_key>{LINE}<arg_value>", f"</arg_value>{LINE}", names=bare_name("<")),
    reserved=("</arg_value>", "<arg_key>", GLM.closing),
    names=r"[\w.:/-]+",
    trims=True,
)
"""On lines of their own, as GLM 4.5 writes the tags, or not, as 4.7 does."""
