"""Faults on real runs: `make faults` writes docs/reliability.md, `make soak` goes on for long."""
