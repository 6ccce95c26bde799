"""C and Cython environments: described, compiled, stepped as one batch."""
