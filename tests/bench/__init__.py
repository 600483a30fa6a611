"""Tests of the bench: figures, tables, prompts, the client, the bare loop."""
