"""Grammars that answers are held to: written here, compiled in the child (llguidance's Lark syntax)."""
