"""Layouts of published models, each beside the same model as llama.cpp wants it."""
