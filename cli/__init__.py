"""The command line: one of the server's clients."""
