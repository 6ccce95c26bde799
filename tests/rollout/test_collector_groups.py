"""Groups of environments in this process, for a device that works for one while the other steps.

The device is the CPU here, where the same rollout can be had in one piece.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.nn import page_locked
from puffer_il.nn.policy import Policy
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.tensors import DeviceRollout
from puffer_il.vector.vec import make_vec

CPU = torch.device("cpu")
VECS: dict[str, dict[str, Any]] = {
    "native": {"name": "cartpole", "kwargs": {"max_episode_steps": 15}},
    "serial": {"name": "CartPole-v1", "backend": "serial", "kwargs": {"max_episode_steps": 15}}}
NAMES = ("obs", "actions", "logprobs", "values", "env_rewards", "terminations", "truncations", "valid",
         "episode_starts", "initial_state", "final_values", "last_obs", "last_values")


def collected(kind: str, groups: int, on_device: bool, locked: bool = False, lstm: int = 0, log: list | None = None
              ) -> dict[str, np.ndarray]:
    """Two rollouts of six environments."""
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    with make_vec(num_envs=6, num_groups=groups, groups_here=True, **VECS[kind]) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=lstm))
        buffer = RolloutBuffer(vec.spec, 20, 6, state_dim=policy.state_dim)
        collector = Collector(vec, policy, buffer, CPU, seed=3)
        collector._collect_natively = lambda: False  # type: ignore[method-assign]
        collector.on_device, collector._locked = on_device, locked
        if on_device:
            buffer.rollout = DeviceRollout(buffer, CPU)
        if log is not None:
            watch(collector, log)
        for rollout in range(2):
            collector.collect()
            found |= {f"{name} {rollout}": getattr(buffer, name).copy() for name in NAMES}
            if on_device:
                assert {"obs", "actions"} <= buffer.rollout.resident
                found |= {f"{name} on the device {rollout}": buffer.rollout[name].numpy().copy() for name in NAMES[:4]}
            found[f"returns {rollout}"] = np.sort(np.concatenate(collector.episode_returns))
    return found


def watch(collector: Collector, log: list) -> None:
    """Note when a group's actions are asked for, and when it steps."""
    ask, send, vec = collector.policy.act, collector.vec.send, collector.vec
    groups = {rows.start: group for group, rows in enumerate(vec.groups)}

    def noted_ask(obs: Any, state: Any, noise: Any, row: int) -> Any:
        log.append(("ask", groups[row]))
        return ask(obs, state, noise, row)

    def noted_send(actions: Any, group: int) -> None:
        log.append(("step", group))
        send(actions, group)

    collector.policy.act, vec.send = noted_ask, noted_send  # type: ignore[method-assign]


@pytest.mark.parametrize("lstm", [0, 4])
@pytest.mark.parametrize("kind", VECS)
def test_groups_and_a_device_collect_what_one_piece_on_the_host_does(kind, lstm):
    expected = collected(kind, 1, on_device=False, lstm=lstm)
    for groups, on_device, locked in ((1, True, False), (1, True, True), (2, False, False), (2, True, False),
                                      (2, True, True), (3, True, True)):
        ours = collected(kind, groups, on_device, locked, lstm)
        for name in ours:
            np.testing.assert_allclose(ours[name], expected[name.replace("on the device ", "")], rtol=1e-5, atol=1e-6,
                                       err_msg=f"{name}, {groups} groups, on_device {on_device}, locked {locked}")
    assert expected["truncations 1"].any() or expected["terminations 1"].any()


def test_one_group_steps_while_the_device_works_for_the_other():
    log: list[tuple[str, int]] = []
    collected("native", 2, on_device=True, log=log)
    turn = [("ask", 1), ("step", 0), ("ask", 0), ("step", 1)]
    assert log == 2 * [("ask", 0), *(19 * turn), ("ask", 1), ("step", 0), ("step", 1)]
    log.clear()
    collected("native", 2, on_device=False, log=log)  # where nothing works meanwhile
    assert log == 40 * [("ask", 0), ("step", 0), ("ask", 1), ("step", 1)]


def test_memory_is_locked_while_its_owner_lives(monkeypatch):
    calls: list[tuple] = []
    runtime = SimpleNamespace(cudaHostRegister=lambda *a: calls.append(a) or 0,
                              cudaHostUnregister=lambda *a: calls.append(a))
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    owner, array = type("Owner", (), {})(), np.zeros(5, np.float32)
    assert page_locked.lock(array, owner)
    place = array.ctypes.data
    assert calls == [(place, 20, 0)]
    del owner
    assert calls == [(place, 20, 0), (place,)]
    runtime.cudaHostRegister = lambda *a: 1

    def reported(*_: Any, device: str) -> None:  # as by the first kernel after a call that has failed
        calls.append((device,))
        raise RuntimeError("CUDA error: part or all of the requested memory is already mapped")

    monkeypatch.setattr(torch, "zeros", reported)
    assert not page_locked.lock(array, type("Owner", (), {})()) and calls[2:] == [("cuda",)]
