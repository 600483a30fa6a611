"""JSON schemas as clients send them, read leniently: references, merged parts, kinds of values."""
