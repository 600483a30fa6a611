"""ECMA 262 regular expressions (`pattern` in a JSON schema), translated into terminals of llguidance grammars."""
