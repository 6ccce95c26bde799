"""Stable-Baselines3's SAC on Gymnasium's Pendulum. One unit is a number of gradient updates from a replay."""

from __future__ import annotations

from typing import Any

from protocol import Work, serve

DEFAULTS = {"net_arch": [64, 64], "batch_size": 256, "updates": 64, "rows": 1024, "seed": 0}


def prepare(settings: dict[str, Any]) -> Work:
    from stable_baselines3 import SAC

    s = {**DEFAULTS, **settings}
    model = SAC("MlpPolicy", "Pendulum-v1", batch_size=s["batch_size"], policy_kwargs={"net_arch": s["net_arch"]},
                seed=s["seed"], device="cpu")
    model.learn(s["rows"])

    def unit() -> dict[str, Any]:
        model.train(s["updates"], s["batch_size"])
        return {"steps": s["updates"]}

    return unit, {"settings": s}


if __name__ == "__main__":
    serve(prepare, ("stable-baselines3", "gymnasium", "numpy", "torch"))
