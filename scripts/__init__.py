"""What `make` runs: set-up, the first run, the tables of the documentation."""
