"""The child process: one model, one llama.cpp context, many sequences. Of the engine only this imports llama_cpp.

`child` runs the two loops in turn on the main thread: `loop` generates, `embed_loop` embeds. `channel` reads requests
from the server and prepares them on threads of its own (`preprocess`, `grammar`, `embed_request`). `context` holds the
model, `admission` decides who runs, `streams` whose cells are kept, `sampling` chooses tokens, `matcher` and
`forced_end` keep an answer to its grammar. `selftest` and `grammar_check` are processes of their own.
"""
