"""One file, one algorithm. `registry.get_learner(name)` imports `puffer_il/learners/<name>.py` when it is asked for."""
