"""Models at rest: names, digests, manifests, the store, GGUF headers, pull and push."""
