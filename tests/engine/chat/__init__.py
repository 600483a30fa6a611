"""Tests of the text side of a chat: thinking, tool calls."""
