"""Names → learners. Built-in ones and those of other packages (entry points) are found the same way.

A learner is a class decorated with `@register("name")`; a built-in one lives in `puffer_il/learners/<name>.py`, another
package offers its own through the entry-point group `puffer_il.learners`, under a name that no built-in one has.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from puffer_il.core.errors import InputError, unknown
from puffer_il.learners.base import Learner
from puffer_il.learners.declared import declared

C = TypeVar("C", bound=type)
Find = Callable[[str], type[Learner]]
GROUP = "puffer_il.learners"
BASE = "puffer_il.learners.base.Learner"
MACHINERY = ("base", "declared", "experiment", "registry")  # files of this room that are not algorithms
NEEDED = ("section", *(name for name in vars(Learner) if not name.startswith("_")), "state_dict", "load_state_dict")
_learners: dict[str, type[Learner]] = {}


def register(name: str, *, uses: tuple[str, ...] = ()) -> Callable[[C], C]:
    """Class decorator: make a learner known by `name`. `uses` names the learners whose config sections it needs too."""

    def wrap(cls: Any) -> Any:
        cls.name, cls.uses = name, uses
        _learners[name] = cls
        return cls

    return wrap


def learner_names() -> list[str]:
    """All names, without importing a learner: built-in files, entry points, and what was registered by hand."""
    return sorted({*_built_in(), *(entry.name for entry in entry_points(group=GROUP)), *_learners})


def get_learner(name: str) -> type[Learner]:
    """The class registered as `name`; InputError with the nearest name if there is none, and where a package offers one
    that cannot be used."""
    if name not in _learners:
        if name in _built_in():
            importlib.import_module(f"puffer_il.learners.{name}")
        elif offers := [entry for entry in entry_points(group=GROUP) if entry.name == name]:
            _load(offers)
        else:
            raise InputError(unknown("algorithm", name, learner_names()))
    return _learners[name]


def declaration(name: str) -> type[Learner]:
    """What an algorithm says of itself (section, `about`, needs): of a built-in one without importing torch, otherwise
    as `get_learner`."""
    found = declared(name) if name not in _learners and name in _built_in() else None
    return found or get_learner(name)


def usable_learners(find: Find = get_learner) -> tuple[dict[str, type[Learner]], list[str]]:
    """All learners by name, as `find` gives them (`declaration` to look at them only), and one line for each that a
    package offers and that cannot be used."""
    found: dict[str, type[Learner]] = {}
    complaints = [f"package {_package(entry)} offers an algorithm {entry.name!r}, a name that puffer_il itself uses; "
                  "rename its entry point" for entry in entry_points(group=GROUP) if entry.name in _built_in()]
    for name in learner_names():
        try:
            found[name] = find(name)
        except InputError as error:
            complaints.append(str(error))
    return found, complaints


def package_of(name: str) -> str:
    """The package that a registered learner comes from; its module's where nobody has installed it."""
    if name in _built_in():
        return __name__.partition(".")[0]
    offers = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    return _package(offers[0]) if offers else _learners[name].__module__.partition(".")[0]


def describe(name: str, cls: type[Learner]) -> dict[str, Any]:
    """An algorithm in plain numbers and texts, for JSON; what a third party leaves out is "not said"."""
    what = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
    return {"name": name, "package": package_of(name),
            "needs": {"rollouts": cls.needs_rollouts, "demonstrations": cls.needs_demos,
                      "actions": cls.needs_demos and cls.needs_actions, "expert": cls.needs_expert},
            "spaces": list(cls.about.spaces), "paper": cls.about.paper, "what": what.rstrip(".") or "not said",
            "when": cls.about.when, "uses": list(cls.uses), "metrics": list(cls.promised_metrics)}


def _built_in() -> list[str]:
    package = importlib.import_module("puffer_il.learners")
    return [module.name for module in pkgutil.iter_modules(package.__path__)
            if not module.ispkg and module.name not in MACHINERY and not module.name.startswith("_")]


def _load(offers: list[EntryPoint]) -> None:
    """Register what a package offers; InputError, naming the package, if it cannot be imported or is not a learner."""
    entry, *others = offers
    origin = f"algorithm {entry.name!r} of package {_package(entry)}"
    if others:
        raise InputError(f"{origin}: offered by {_package(others[0])} too; uninstall one of them")
    try:
        cls = entry.load()
    except Exception as error:  # an import can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{origin}: {entry.value} cannot be imported ({reason}); repair or uninstall it") from None
    _learners.pop(entry.name, None)  # until it has been looked at: loading it may have run a @register of its own
    missing = [attribute for attribute in NEEDED if not hasattr(cls, attribute)]
    if missing:
        raise InputError(f"{origin}: {entry.value} has no {', '.join(missing)}; derive it from {BASE}")
    if not dataclasses.is_dataclass(cls.section):
        raise InputError(f"{origin}: the section of {entry.value} is not a dataclass; see {BASE}")
    if getattr(cls, "name", entry.name) != entry.name:
        raise InputError(f"{origin}: {entry.value} registers itself as {cls.name!r}; give both the same name")
    register(entry.name, uses=getattr(cls, "uses", ()))(cls)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module.partition(".")[0]
