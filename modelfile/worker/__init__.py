"""The weights worker process: quantizes, merges, converts, repacks. Started, never imported."""
