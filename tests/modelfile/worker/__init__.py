"""The process that works on weights."""
