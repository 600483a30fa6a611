"""Clients in Python. Each module runs in an environment of its own, without anything of this project."""
