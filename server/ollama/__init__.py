"""Ollama's API: `/api/*` and `/`."""
