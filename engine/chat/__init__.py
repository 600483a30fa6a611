"""Messages to a prompt, and a model's text to thinking and content."""
