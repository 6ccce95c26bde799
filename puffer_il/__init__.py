"""puffer_il: fast imitation learning on PufferLib vector environments.

    import puffer_il

    run = puffer_il.train("gail", "cartpole", seed=1)
    actions, _ = run.policy.predict(observations, deterministic=True)

Importing this package costs nothing: what it offers is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puffer_il.api import *  # noqa: F403

__version__ = "0.1.0"
__all__ = ["Demos", "EnvFailure", "InputError", "Run", "algorithms", "collect", "evaluate", "load",  # noqa: F405
           "load_demos", "load_reward", "make", "make_vec", "train"]


def __getattr__(name: str) -> Any:
    if name == "gym":
        return import_module("puffer_il.gym")
    if name not in __all__:
        raise AttributeError(f"module 'puffer_il' has no attribute {name!r}")
    return getattr(import_module("puffer_il.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
