"""`puffer-il bench`: how fast each part is, against what the machine can do and against other packages.

--json FILE holds all of it:

    {"machine": {"cpu", "cores", "instruction_set", "threads", "torch", "python", "puffer_il", "gpu", "date", "command"},
     "limits":  {"fma": {THREADS: figure}, "gemm": {THREADS: figure},        in FLOP/s, register-only C and torch.matmul
                 "bandwidth": {LEVEL: {"bytes", "read"|"fill"|"copy"|"triad": {THREADS: figure}}},           in B/s 
                "steps": {THREADS: figure}},                                C CartPole's, stepped by a C loop
     "results": {BENCH: [entry, …]},                 BENCH as on the command line, and "rivals" for --peers
     "interrupted": bool}

A figure is {"median", "min", "max", "samples"} over repeats, an entry one measured thing: "name", what was set, and its
figures. Rates are per second, times in seconds, ratios of pairs that were measured one right after the other. A new
kind of entry is one function in the file of its subject, and one in tables.py that says what its numbers mean.
"""

from puffer_il.bench.command import main

__all__ = ["main"]
