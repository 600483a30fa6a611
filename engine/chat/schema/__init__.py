"""JSON schemas as clients send them, read leniently.

`reader` reads one into the sets of values that it allows, for grammars; `variants` into the kinds of values, for
parsing arguments. `references` resolves `$ref` for both.
"""
