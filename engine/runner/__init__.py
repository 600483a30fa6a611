"""The child process: one model, one llama.cpp context, many sequences. Only this package imports llama_cpp."""
