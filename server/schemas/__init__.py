"""Request bodies, one file per API family."""
