"""Other packages beside ours, each in a virtual environment of its own: what `puffer-il bench --peers` measures.

`run.py` builds the environments and interleaves the measurements; `workers/` holds what runs inside them, and what is
there never imports puffer_il; but for the worker of an earlier commit, whose peer that is.
"""
