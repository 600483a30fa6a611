"""GLM's calls: `<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`, also Ling's and Laguna's."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup

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
