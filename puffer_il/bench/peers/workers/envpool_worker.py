"""EnvPool's environments under random actions drawn beforehand. One unit is `rounds` steps of each of them."""

from __future__ import annotations

from typing import Any

from protocol import Work, serve

DEFAULTS = {"num_envs": 64, "batch_size": 64, "cores": 2, "seed": 1, "actions": 64, "rounds": 4}


def prepare(settings: dict[str, Any]) -> Work:
    import envpool
    import numpy as np

    s = {**DEFAULTS, **settings}
    sync = s["batch_size"] == s["num_envs"]
    env = envpool.make_gymnasium(s["id"], num_envs=s["num_envs"], batch_size=s["batch_size"], num_threads=s["cores"],
                                 seed=s["seed"])
    space = env.action_space
    shape = (s["actions"], s["batch_size"], *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(space.dtype)
    steps = s["num_envs"] * s["rounds"]
    if sync:
        env.reset()
    else:
        env.async_reset()  # whichever environments are ready first make up a batch, its fastest mode
    number = 0

    def unit() -> dict[str, Any]:
        nonlocal number
        for _ in range(steps // s["batch_size"]):
            number = (number + 1) % s["actions"]
            if sync:
                env.step(actions[number])
            else:
                env.send(actions[number], env.recv()[-1]["env_id"])
        return {"steps": steps}

    return unit, {"settings": {**s, "mujoco": linked_mujoco()}}


def linked_mujoco() -> str:
    """Its MuJoCo is built in; the version is the only text of that form in the library."""
    import re
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("envpool")
    assert spec is not None and spec.origin is not None
    for library in Path(spec.origin).parent.glob("mujoco/*gym*.so"):
        found = re.search(rb"\0(3\.\d+\.\d+)\0", library.read_bytes())
        if found:
            return found[1].decode()
    return ""


if __name__ == "__main__":
    serve(prepare, ("envpool", "gymnasium", "numpy"))
