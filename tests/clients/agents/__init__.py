"""Coding agents: what they send, in each dialect."""
