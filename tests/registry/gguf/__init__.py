"""Tests of reading GGUF headers."""
