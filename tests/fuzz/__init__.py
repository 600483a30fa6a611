"""Broken inputs without end, for what reads the texts and files of strangers: `python -m tests.fuzz TARGET`."""
