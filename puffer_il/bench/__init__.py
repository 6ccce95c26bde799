"""`puffer-il bench`: how fast each part is, against what the machine can do and against other packages.

--json FILE holds all of it. Every rate is per second, of operations, bytes, steps, rows or samples:

    {"machine": {"cpu", "cores", "instruction_set", "threads", "torch", "python", "puffer_il", "gpu", "date",
                 "command"},
     "limits": {"fma": {THREADS: figure}, "gemm": {THREADS: figure},     C loop in registers, torch.matmul
                "bandwidth": {LEVEL: {"bytes": working set, "read" | "fill" | "copy" | "triad": {THREADS: figure}}},
                "steps": {THREADS: figure}},                             C CartPole, stepped by a C loop
     "results": {STEP: [entry, …]},       STEP of command.WHAT, and with --peers "rivals" and "expert"
     "interrupted": bool}

A figure is {"median", "min", "max", "samples"} over repeats; an entry one measured thing: "name", what was set, and its
figures. Ratios and shares are of pairs that were measured one right after the other. A new kind of entry is one
function in the file of its subject, and one in tables.py that says what its numbers mean.
"""

from puffer_il.bench.command import main

__all__ = ["main"]
