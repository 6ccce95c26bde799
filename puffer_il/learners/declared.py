"""What the built-in algorithms say of themselves (section, `about`, needs), read without importing torch.

An algorithm's file is run with stand-ins for all that it imports from outside of `learners` and `core`. They are worth
nothing, but the body of a function does not look its names up before it is called, and nobody calls one here. The
classes that come out are to be looked at: `registry.get_learner` gives those that learn.
"""

import builtins
import sys
from dataclasses import fields
from functools import cache
from importlib.machinery import PathFinder
from types import SimpleNamespace
from typing import Any

ROOM = __name__.rpartition(".")[0]
ITSELF = (f"{ROOM}.base", "puffer_il.core")  # what is imported as ever, beside the standard library and NumPy


class StandIn:
    """Whatever is wanted of it: a module, a decorator, a constant, or a base that adds nothing to a class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __mro_entries__(self, _: tuple) -> tuple:
        return ()

    __getitem__ = __or__ = __ror__ = __call__


STAND_IN = StandIn()


@cache
def declared(name: str) -> Any:
    """The class of a built-in algorithm as its file declares it, with `name` and `uses`; None where something of that
    follows from what is not imported here."""
    try:
        found = _run(f"{ROOM}.{name}").registered[name]
        keys = fields(found.section)
    except Exception:  # a file may do anything with what it imports
        return None
    told = [found.uses, found.promised_metrics, *vars(found.about).values(), getattr(found.section, "implies", {}),
            *(part for key in keys for part in (key.type, key.default, *key.metadata.values()))]
    return None if any(map(_stands_in, told)) else found


def _stands_in(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return isinstance(value, StandIn) or any(map(_stands_in, inside))


@cache
def _run(module: str) -> SimpleNamespace:
    """The names of a file in this room that was run with stand-ins, and the algorithms that it has `registered`."""
    path = sys.modules[ROOM].__path__
    for part in module.removeprefix(f"{ROOM}.").split("."):
        spec: Any = PathFinder.find_spec(part, path)
        path = spec.submodule_search_locations
    registered: dict[str, type] = {}

    def register(name: str, *, uses: tuple[str, ...] = ()) -> Any:
        def wrap(cls: Any) -> Any:
            cls.name, cls.uses, registered[name] = name, uses, cls
            return cls

        return wrap

    def imports(name: str, namespace: Any = None, own: Any = None, wanted: Any = (), level: int = 0) -> Any:
        package = name.partition(".")[0]
        if level == 0 and (package in sys.stdlib_module_names or package == "numpy" or name.startswith(ITSELF)):
            return builtins.__import__(name, namespace, own, wanted, level)
        if name == f"{ROOM}.registry":
            return SimpleNamespace(register=register, get_learner=STAND_IN, learner_names=STAND_IN)
        ours = name.startswith(f"{ROOM}.") and wanted and name != f"{ROOM}.common"
        return _run(name) if ours else STAND_IN

    names = {"__name__": ROOM, "__builtins__": vars(builtins) | {"__import__": imports}}  # of a module that there is
    exec(spec.loader.get_code(part), names)
    return SimpleNamespace(**names, registered=registered)
