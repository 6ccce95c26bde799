"""What every room agrees on: errors, the spec of an environment, configuration, checkpoints, text for people."""
