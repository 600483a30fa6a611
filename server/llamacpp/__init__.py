"""Paths of llama.cpp's own server."""
