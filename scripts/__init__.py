"""Programs run by `make`: set-up, the first run, tables of the documentation, the image's test."""
