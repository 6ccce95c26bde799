"""Networks, distributions, the policy, losses."""
