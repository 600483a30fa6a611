"""Every recorded case of prompts and answers: templates, renderers, parsers, whole chats.

PRONK_CHAT_CASES=FILE reads another file of the same form. The tests stand beside those of the rooms that they try.
"""

import pytest

pytest.register_assert_rewrite(
    "tests.engine.chat.recorded", "tests.engine.chat.renderers.recorded", "tests.modelfile.gotemplate.recorded"
)

from tests.engine.chat.recorded import *  # noqa: E402, F403
from tests.engine.chat.renderers.recorded import *  # noqa: E402, F403
from tests.modelfile.gotemplate.recorded import *  # noqa: E402, F403
