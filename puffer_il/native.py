"""C environments as PufferEnvs, and the one place where PufferLib is imported."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from types import ModuleType


def import_pufferlib() -> ModuleType:
    """PufferLib with `pufferlib.vector` and `pufferlib.emulation`, without the side effects of its import.

    Its __init__ imports its torch models (1.4 s that we do not need), and what it imports in turn may print, change
    the working directory or the warning filters. It also leaves out of its namespace two exceptions that its own
    modules raise as `pufferlib.APIUsageError` and `pufferlib.InvalidAgentError`.
    """
    if "pufferlib" not in sys.modules:
        blocked = [name for name in ("pufferlib.pytorch", "pufferlib.models") if name not in sys.modules]
        sys.modules.update(dict.fromkeys(blocked))  # None makes `import` raise ImportError, which PufferLib expects
        try:
            with contextlib.chdir("."), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                importlib.import_module("pufferlib")
        finally:
            for name in blocked:
                del sys.modules[name]
    package = sys.modules["pufferlib"]
    for name in ("APIUsageError", "InvalidAgentError"):
        setattr(package, name, getattr(package.pufferlib, name))
    return package
