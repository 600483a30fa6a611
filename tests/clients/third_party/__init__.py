"""Clients that other people write, against a real server: `make clients`."""
