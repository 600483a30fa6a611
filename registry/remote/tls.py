"""Certificates: which servers are trusted."""

from __future__ import annotations

import ssl

import certifi


def system_tls() -> ssl.SSLContext:
    """A TLS context with the system's certificates, and certifi's for a system that has none."""
    try:
        context = ssl.create_default_context()
    except OSError:  # SSLKEYLOGFILE names a file that cannot be written
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
    context.load_verify_locations(certifi.where())
    return context
