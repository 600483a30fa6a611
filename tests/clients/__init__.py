"""The official clients against a real server."""
