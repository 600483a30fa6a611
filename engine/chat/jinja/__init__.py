"""Chat templates in Jinja: rendered in processes of their own, because they come with model files."""
