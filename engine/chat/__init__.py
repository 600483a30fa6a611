"""Prompts from messages; thinking, content and tool calls from answers; grammars that answers must match."""
