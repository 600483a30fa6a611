"""Models at rest, and on their way: names, digests, manifests, the store, GGUF headers, pull and push."""
