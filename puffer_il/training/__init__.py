"""A run: its parts, the loop, where its metrics go."""
