"""Which models are loaded: the scheduler, the child processes, memory and devices."""
