"""Grammars that answers must match: written here in llguidance's Lark syntax, compiled in the child."""
