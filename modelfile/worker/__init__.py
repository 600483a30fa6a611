"""The process that works on weights: quantising, merging, converting. It is started, never imported."""
