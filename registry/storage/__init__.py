"""Models on disk: blobs, manifests, partial downloads."""
