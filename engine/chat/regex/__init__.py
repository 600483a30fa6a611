"""Regular expressions of ECMA 262 as terminals of a grammar."""
