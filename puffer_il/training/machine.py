"""What a result may depend on beside the experiment and its seed: the instruction sets that rounded it, and by whom.

Every library here takes the widest vectors of the processor that it runs on, and wider ones sum in another order. The
same run gives the same bytes wherever these are the same.
"""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import puffer_il.kernels._kernels as kernels
from puffer_il.core.text import shown
from puffer_il.kernels.threads import cores
from puffer_il.vector.vec import Vec


def machine(vec: Vec | None, device: torch.device) -> dict[str, Any]:
    """Part of summary.json, of this process and the training environments `vec`; None of a learner without any.

    `threads` and `workers` are reported because they tell a run's speed; `instruction_sets`, `torch_threads` and
    `groups` because results may depend on them.
    """
    return {
        "processor": processor(), "cores": cores(), "instruction_sets": instruction_sets(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": kernels.get_threads(), "torch_threads": torch.get_num_threads(),
        "workers": vec.num_workers if vec else 0, "groups": len(vec.groups) if vec else 1,
    }


def instruction_sets() -> dict[str, str]:
    """The sets in use, by library: our kernels (and whether they round to bf16), torch and NumPy, as they name them."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    ours = kernels.instruction_set() + ("+bf16" if kernels.bf16() else "")
    return {"kernels": ours, "torch": torch.backends.cpu.get_cpu_capability(),
            "numpy": [*found.get("baseline", ()), *found.get("found", ())][-1]}


def changed_sets(before: Any) -> list[str]:
    """One line, if a run goes on with other sets than those of its checkpoint."""
    if not isinstance(before, dict):
        return []  # of an earlier version
    changed = [f"{library} {name} instead of {shown(str(before[library]))}"
               for library, name in instruction_sets().items() if before.get(library, name) != name]
    return [f"this machine computes with {', '.join(changed)}: from here on the run rounds otherwise than it would "
            "have there"] if changed else []


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()
