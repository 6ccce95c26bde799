"""Results shown to people."""
