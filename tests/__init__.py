"""The tests: one folder per package, one module per source file."""
