"""ECMA 262 regular expressions (`pattern` in a JSON schema), translated into terminals of llguidance grammars.

`ecma` parses a pattern into `nodes`, `assertions` rewrites look-around and anchors, `nodes` writes the terminal.
`numbers` and `string_formats` are the terminals of numeric bounds and of `format`.
"""
