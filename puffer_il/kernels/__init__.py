"""The compiled networks and losses of the CPU."""
