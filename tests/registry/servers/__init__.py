"""Registries to talk to: the CNCF's own program, and small servers that misbehave as they are told."""
