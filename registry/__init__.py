"""Models at rest: names, digests, manifests, the on-disk store, the GGUF header."""
