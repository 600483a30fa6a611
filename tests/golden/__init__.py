"""Recorded answers of a real Ollama, asked of this server."""
