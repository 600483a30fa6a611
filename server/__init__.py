"""What the world sees: the HTTP surface."""
