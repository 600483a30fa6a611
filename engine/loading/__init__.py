"""Loading and unloading models: scheduler, child processes, memory plans, devices."""
