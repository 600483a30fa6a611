"""Chat templates in Jinja: rendered in processes of their own, because they come with model files.

`service` queues conversations on the server's event loop and gives them to workers, which `forkserver` starts and
`limits` restricts. In a `worker`, `renderer` adapts messages (`adapt`) to what the template can do (`caps`) and runs it
(`template`) in the `sandbox`.
"""
