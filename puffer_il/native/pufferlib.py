"""PufferLib with `pufferlib.vector` and `pufferlib.emulation`, without the side effects of its import."""

import contextlib
import importlib
import sys
import warnings
from typing import Any


def _import() -> Any:
    """The package. Its __init__ imports torch models (1.4 s) and gym, where that is installed (160 ms and a notice on
    stderr), and what it imports in turn may print, change the working directory or the warning filters. It also leaves
    out of its namespace two exceptions that its own modules raise as `pufferlib.APIUsageError` and
    `pufferlib.InvalidAgentError`.
    """
    if "pufferlib" not in sys.modules:
        blocked = [name for name in ("pufferlib.pytorch", "pufferlib.models", "gym") if name not in sys.modules]
        for name in blocked:
            sys.modules[name] = None  # type: ignore[assignment]  # makes `import` raise ImportError, which it expects
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


pufferlib = _import()
