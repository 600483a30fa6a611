"""Models in motion: which are loaded, who waits, and the child processes that run them."""
