"""What models take, measured beside what was planned: `make memory`."""
