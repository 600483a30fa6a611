"""The models directory: blobs, manifests, partial downloads, leases."""
