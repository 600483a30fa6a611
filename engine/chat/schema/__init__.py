"""JSON schemas as clients send them."""
