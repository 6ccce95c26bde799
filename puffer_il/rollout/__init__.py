"""Rollouts: the buffer, who acts, the collector, evaluations."""
