"""Valid inputs of every reader, small and always the same ones, as those who write such files write them."""

from __future__ import annotations

import collections
import io
import itertools
import json
import pickle
import tempfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from puffer_il.core.checkpoint import FORMAT, latest, spec_to_state
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import subsample_rows
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.learned_reward import NetworkReward, TableReward, save_reward
from puffer_il.learners.experiment import build, make_policy
from puffer_il.native.catalogue import env_folders
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.vec import make_vec
from tests.fuzz.mutate import Files
from tests.support.demos import make_demos, write_cs285, write_imitation, write_ours
from tests.support.runs import run, tiny

SPEC = EnvSpec("toy", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
STATEFUL = ("taxi", "frozenlake", "snake", "tron", "breakout", "highway", "merge", "ngsim", "glucose", "cliffwalking",
            "mdp", "cartpole", "detour")


def _written(write: Any, name: str) -> Files:
    """What `write(path)` writes there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return {name: path.read_bytes()}


def demos() -> list[Files]:
    found = [
        _written(make_demos((3, 1, 4), obs_shape=(4,)).save, "d.npz"),
        _written(make_demos((5, 2), obs_shape=(4,), continuous=True, columns=3, rewards=False, ends="open").save,
                 "d.npz"),
        _written(make_demos((2, 2), obs_shape=(3, 4, 2), obs_dtype="uint8").save, "d.npz"),
        _written(lambda path: write_imitation(path, (3, 2)), "d.npz"),
        _written(lambda path: write_imitation(path, (3, 0, 2), infos=None), "d.npz"),
        _written(lambda path: write_ours(path, (3, 2)), "d.npz"),
        _written(lambda path: write_cs285(path, (3, 2)), "d.npz"),
    ]
    n, ends = 6, np.array([0, 0, 1, 0, 0, 1], bool)
    rows = np.arange(4.0 * n).reshape(n, 4)
    layout = [[key, "<f4", [2], offset, 0, [key], 0, 0.0, 255.0, False] for key, offset in (("a", 0), ("b", 8))]
    meta = {"format": "puffer_il demos", "version": 1, "env": "toy", "notes": ["one"], "layout": layout}
    named: list[dict[str, Any]] = [
        {"observations": rows, "actions": np.zeros((n, 2)), "rewards": np.ones(n), "terminals": ends,
         "timeouts": ends & False},
        {"observations": rows, "actions": np.zeros(n, int), "dones": ends, "next_observations": rows + 4},
        {"observations": rows, "actions": np.zeros((n, 2)), "terminals": ends, "masks": ~ends},
        {"state": rows, "act": np.zeros(n), "done": ends, "is_first": np.roll(ends, 1)},
        {"states": rows.reshape(2, 3, 4), "acts": np.zeros((2, 2, 1)), "reward": np.ones((2, 2)), "lengths": [2, 1]},
        {"obs_0": rows[:3], "actions_0": np.zeros(2), "obs_1": rows[3:], "actions_1": np.zeros(2)},
        {"obs": rows, "actions": np.zeros((n, 1), int), "rewards": np.ones(n), "episode_returns": np.ones(2),
         "episode_starts": np.array([1, 0, 0, 1, 0, 0], bool)},
        {"obs": rows.astype("f4"), "actions": np.zeros(n, int), "next_obs": rows.astype("f4"), "terminations": ends,
         "truncations": ends & False, "weights": np.ones(n), "states": np.zeros((n, 3)), "meta": np.array(
             json.dumps(meta))},
    ]
    return found + [_written(lambda path, arrays=arrays: np.savez(path, **arrays), "d.npz") for arrays in named]


STRANGE: list[Any] = [  # that somebody might have written in an array's place
    0, -1, 3.5, "x", np.bytes_("x"), np.zeros(0), np.zeros((0, 2)), np.zeros((3, 0)), np.arange(3), np.arange(300),
    np.full(3, 2**63, np.uint64), np.full((3, 2), np.nan), np.full((3, 2), 1e300), np.ones((3, 2, 2), bool),
    np.zeros(3, np.float16), np.array([b"a", b"b"]), np.zeros(3, [("a", "f4")]), np.zeros((2, 3, 2), np.uint8)]


def hdf5() -> list[Files]:
    """Files of every layout in HDF5. What they are is told from their content, not from this name."""
    from tests.support import hdf5 as layouts

    return [_written(lambda path, write=write: write(path), "d.npz") for write in layouts.EXAMPLES]


def minari() -> list[Files]:
    """A data set of choices and one of numbers, as HDF5; and the second as Arrow tables."""
    import os

    import minari.data_collector
    from gymnasium.spaces import Box

    from puffer_il.demos.formats import minari as format

    found = []
    for continuous, tables in ((False, False), (True, False), (True, True)):
        spec = EnvSpec("toy", (4,), np.dtype(np.float32), ActionSpec(
            low=np.full(1, -1, np.float32), high=np.ones(1, np.float32), shape=(1,)) if continuous else SPEC.action)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.environ["MINARI_DATASETS_PATH"] = folder
            if tables:
                buffers = [minari.data_collector.EpisodeBuffer(
                    observations=np.zeros((n + 1, 4), np.float32), actions=np.zeros((n, 1), np.float32),
                    rewards=np.ones(n), terminations=np.arange(n) == n - 1, truncations=np.zeros(n, bool))
                    for n in (3, 2)]
                minari.create_dataset_from_buffers("own/toy-v0", buffers, observation_space=Box(-1, 1, (4,)),
                                                   action_space=Box(-1, 1, (1,)), data_format="arrow")
            else:
                format.write("minari:own/toy-v0", make_demos((3, 2), obs_shape=(4,), continuous=continuous), spec)
            found.append({str(path.relative_to(folder)): path.read_bytes()
                          for path in sorted(Path(folder).rglob("*")) if path.is_file()})
    return found


def shards() -> list[Files]:
    made = []
    for demos in (make_demos((3, 1, 4), obs_shape=(4,)), subsample_rows(make_demos((4, 3), obs_shape=(4,)), 2),
                  make_demos((2, 2), obs_shape=(3, 4, 2), obs_dtype="uint8", rewards=False)):
        with tempfile.TemporaryDirectory() as folder:
            demos.save(f"{folder}/d/", env="toy")
            made.append({f"d/{path.name}": path.read_bytes() for path in sorted(Path(folder, "d").iterdir())})
    return made


def huggingface() -> list[Files]:
    import pyarrow

    rows = [{"obs": [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]], "acts": [0, 1], "rews": [1.0, 1.0], "terminal": True},
            {"obs": [[5.0, 1.0], [6.0, 2.0]], "acts": [1], "rews": [0.5], "terminal": False}]
    table = pyarrow.Table.from_pylist(rows)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    return [{"d/data-00000-of-00001.arrow": sink.getvalue(), "d/dataset_info.json": b"{}",
             "d/state.json": json.dumps(state).encode()}]


def _config(algo: str, **more: Any) -> Any:
    return build(algo, [("fuzz", {"env": {"name": "cartpole"}, "policy": {"hidden": [4]}} | more)])


def configs() -> list[Files]:
    return [{"config.toml": _config(algo).to_toml().encode()} for algo in ("gail", "bc", "maxent_irl", "sac")] + [
        {"config.toml": _config("ppo", env={"name": "CartPole-v1", "kwargs": {"g": 1.5, "t": {"a": [1]}}}
                                ).to_toml().encode()}]


def run_files() -> list[Files]:
    lines = [{"step": 10, "updates": 1, "loss": 0.5}, {"step": 20, "updates": 2, "loss": None}, {"step": 30}]
    return [{"summary.json": json.dumps({"status": "finished", "eval": {"return_mean": 1.0}}).encode(),
             "metrics.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in lines)}]


def _saved(state: Any) -> bytes:
    made = io.BytesIO()
    torch.save(state, made)
    return made.getvalue()


def checkpoints() -> list[Files]:
    found = []
    for more in ({}, {"policy": {"hidden": [4], "lstm": 3}}, {"policy": {"hidden": [4, 3], "shared": True}}):
        config = _config("ppo", **more)
        state = {"format": FORMAT, "policy": make_policy(SPEC, config).state_dict(), "policy_steps": 10,
                 "spec": spec_to_state(SPEC), "expert_return": 9.5, "random_return": None}
        found.append({"config.toml": config.to_toml().encode(), "checkpoints/step_000000000010.pt": _saved(state)})
    return found


def resumed() -> list[Files]:
    """A run that was interrupted after its first iteration."""
    found = []
    for algo in ("ppo", "sac"):
        with tempfile.TemporaryDirectory() as folder:
            config = tiny(algo, Path(folder, "run"), train__total_steps=512, eval__final_episodes=2,
                          eval__max_episode_steps=40, policy__hidden=[4])
            run(config, interrupt_after=1)
            kept = [Path(folder, "run", "config.toml"), latest(Path(folder, "run"))]
            found.append({str(path.relative_to(Path(folder, "run"))): path.read_bytes() for path in kept})
    return found


def rewards() -> list[Files]:
    network = NetworkReward.of(SPEC, "gail", Discriminator(SPEC, (4,), "tanh", False, "state_action"), 0.5, hidden=(4,),
                               activation="tanh")
    states = EnvSpec("mdp", (1,), np.dtype(np.int32), ActionSpec(nvec=(2,)))
    table = TableReward.of(states, "maxent_irl", np.zeros((3, 2)))
    return [_written(lambda path, one=one: save_reward(one, path), "reward.pt") for one in (network, table)]


def _net(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def _named(net: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in net.state_dict().items()}


def policies() -> list[Files]:
    rng = np.random.default_rng(0)
    gail = {"W0": rng.normal(size=(4, 3)), "b0": np.zeros(3), "Wout": rng.normal(size=(3, 2)), "bout": np.zeros(2),
            "obs_mean": np.zeros(4), "obs_std": np.ones(4), "act": np.zeros(1)}
    layers = {"actor": _net(4, 3, 3, 2), "critic": _net(4, 3, 3, 1)}
    cleanrl = {key: value for name, net in layers.items() for key, value in _named(net, f"{name}.").items()}
    values = _named(_net(4, 3, 3, 2, activation=nn.ReLU), "network.")
    puffer = {"encoder.0.weight": torch.zeros(3, 4), "encoder.0.bias": torch.zeros(3),
              "decoder.weight": torch.zeros(2, 3), "decoder.bias": torch.zeros(2), "value.weight": torch.zeros(1, 3),
              "value.bias": torch.zeros(1)}
    memory = {f"policy.{key}": value for key, value in puffer.items()} | _named(nn.LSTM(3, 3), "lstm.")
    rsl = {"model_state_dict": _named(_net(4, 3, 2, activation=nn.ELU), "actor.") | {"std": torch.ones(2)}, "iter": 1}
    rl = {"model": {f"a2c_network.{key}": value for key, value in (
        _named(_net(4, 3), "actor_mlp.") | {"logits.weight": torch.zeros(2, 3), "logits.bias": torch.zeros(2)}).items()}
        | {"running_mean_std.running_mean": torch.zeros(4), "running_mean_std.running_var": torch.ones(4)}}
    skrl = {"policy": _net(4, 2).state_dict(), "optimizer": {}}
    yaml = b"params:\n  network:\n    mlp:\n      activation: elu\n  config:\n    clip_actions: True\n"
    return [_written(lambda path: np.savez(path, **gail), "p.npz"),
            *({"p.pt": _saved(state)} for state in (cleanrl, values, puffer, memory, skrl)),
            {"p.pt": _saved(rsl), "agent.yaml": b"policy:\n  activation: elu\n"},
            {"p.pt": _saved(rl), "agent.yaml": yaml}]


def torchscripts() -> list[Files]:
    made = torch.jit.trace(_net(4, 3, 2), torch.zeros(2, 4))
    return [_written(lambda path: made.save(str(path)), "p.pt")]


def _field(number: int, value: int | bytes | str) -> bytes:
    """One field of protobuf: a number below 128, or bytes of any length."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    data, size = value.encode() if isinstance(value, str) else value, b""
    left = len(data)
    while left > 127:
        size, left = size + bytes((left & 127 | 128,)), left >> 7
    return bytes((number << 3 | 2,)) + size + bytes((left,)) + data


def _onnx(nodes: list[tuple[str, str, str]], numbers: dict[str, np.ndarray], inputs: dict[str, tuple[int | str, ...]],
          outputs: dict[str, tuple[int | str, ...]]) -> bytes:
    """A model of nodes (operation, inputs, output), as onnx.proto of the project ONNX lays it out, without its package:
    the numbers of its messages' fields are from there."""
    def values(number: int, named: dict[str, tuple[int | str, ...]]) -> bytes:
        return b"".join(_field(number, _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, b"".join(
            _field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape))))) for name, shape in
            named.items())

    graph = b"".join(_field(1, b"".join(_field(1, name) for name in given.split()) + _field(2, made) + _field(4, kind))
                     for kind, given, made in nodes) + _field(2, "g")
    graph += b"".join(_field(5, b"".join(_field(1, size) for size in array.shape) + _field(2, 1) + _field(8, name)
                             + _field(9, array.astype("<f4").tobytes())) for name, array in numbers.items())
    return _field(1, 8) + _field(7, graph + values(11, inputs) + values(12, outputs)) + _field(8, _field(2, 17))


def onnx() -> list[Files]:
    """A network of two layers for any number of rows, for one, and one that remembers."""
    numbers = {"w": np.ones((4, 3)), "v": np.ones((3, 2)), "b": np.zeros(2)}
    nodes = [("MatMul", "obs w", "x"), ("Tanh", "x", "y"), ("MatMul", "y v", "z"), ("Add", "z b", "act")]
    found = [_onnx(nodes, numbers, {"obs": (rows, 4)}, {"act": (rows, 2)}) for rows in ("n", 1)]
    memory = [nodes[0], ("Add", "x h_in", "h_out"), ("Squeeze", "h_out", "s"), ("Add", "s x", "y"), *nodes[2:]]
    return [{"p.onnx": one} for one in (*found, _onnx(memory, numbers, {"obs": (1, 4), "h_in": (1, 1, 3)},
                                                      {"act": (1, 2), "h_out": (1, 1, 3)}))]


def stable_baselines() -> list[Files]:
    import gymnasium
    import stable_baselines3 as sb3

    class Toy(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

    found = []
    for algo, more in (("PPO", {"n_steps": 8}), ("DQN", {"buffer_size": 8})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = getattr(sb3, algo)("MlpPolicy", Toy(), device="cpu", seed=1, policy_kwargs={"net_arch": [3]},
                                       **more)
        made, kept = io.BytesIO(), io.BytesIO()
        model.save(made)
        with zipfile.ZipFile(made) as given, zipfile.ZipFile(kept, "w") as small:
            for name in ("data", "policy.pth"):
                content = given.read(name)
                if name == "data":
                    wanted = ("policy_class", "policy_kwargs", "observation_space", "action_space",
                              "_last_original_obs", "exploration_rate")
                    content = json.dumps({key: value for key, value in json.loads(content).items() if key in wanted}
                                         ).encode()
                small.writestr(name, content)
        found.append({"m.zip": kept.getvalue()})
    return found


class _Statistics:
    """Stands in for a class of the library: a pickle holds only its name."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


def pickles() -> list[Files]:
    moments = _Statistics(mean=np.zeros(4), var=np.ones(4), count=1e-4)
    normal = _Statistics(norm_obs=True, obs_rms=moments, clip_obs=10.0, epsilon=1e-8, norm_obs_keys=None)
    keyed = _Statistics(norm_obs=True, obs_rms={"a": moments}, clip_obs=np.float32(10), epsilon=1e-8,
                        norm_obs_keys=["a"])
    plain = {"a": [1, -2.5, None, True, 2**70], "b": ("text", b"bytes", {1, 2}), "c": collections.OrderedDict(a=1)}
    many = np.arange(6, dtype=">i4").reshape(2, 3)
    return [{"x.pkl": pickle.dumps(value, protocol)} for protocol in (0, 2, 4, 5)
            for value in (normal, keyed, plain, many, np.asfortranarray(many), [1, 2.5], np.float32(1.5))]


def env_tomls() -> list[Files]:
    return [{f"{name}/env.toml": (folder / "env.toml").read_bytes(),
             f"{name}/{name}.h": (folder / f"{name}.h").read_bytes()}
            for name, folder in sorted(env_folders().items()) if folder.parent.name == "envs"]


CAR = "<rectangle><length>4.5</length><width>1.8</width></rectangle>"


def _state(frame: int, x: float) -> str:
    return (f"<position><point><x>{x}</x><y>0.5</y></point></position><orientation><exact>0</exact></orientation>"
            f"<time><exact>{frame}</exact></time><velocity><exact>8</exact></velocity>")


def scenes() -> list[Files]:
    trajectory = "".join(f"<state>{_state(k, 0.8 * k)}</state>" for k in range(1, 25))
    circle = "<circle><radius>1.5</radius></circle>"
    polygon = "<polygon>" + "".join(f"<point><x>{x}</x><y>{y}</y></point>"
                                    for x, y in ((0, 0), (4, 0), (4, 2), (0, 2))) + "</polygon>"
    lane = "<lanelet id='9'><leftBound>" + "".join(f"<point><x>{x}</x><y>2</y></point>" for x in (0, 9, 30)
                                                   ) + "</leftBound></lanelet>"
    moving = (f'<dynamicObstacle id="1"><type>car</type><shape>{CAR}</shape><initialState>{_state(0, 0)}</initialState>'
              f"<trajectory>{trajectory}</trajectory></dynamicObstacle>")
    others = "".join(f'<staticObstacle id="{k}"><shape>{shape}</shape><initialState>{_state(0, 9.0 * k)}</initialState>'
                     "</staticObstacle>" for k, shape in ((2, circle), (3, polygon), (4, CAR)))
    old = moving.replace("dynamicObstacle", "obstacle").replace("<type>", "<role>dynamic</role><type>")
    rows = np.array([[v, frame, 0.8 * frame + 20 * v, 0.0, 0.0, 8.0] for v in range(2) for frame in range(25)])
    return [*({"s.xml": f'<?xml version="1.0"?><commonRoad timeStepSize="0.1">{inside}</commonRoad>'.encode()}
              for inside in (moving + others + lane, old)),
            _written(lambda path: np.savez(path, rows=rows), "s.npz")]


def mdps() -> list[Files]:
    p = np.zeros((3, 2, 3))
    p[:, 0, 1], p[:, 1, 2] = 1, 1
    arrays = {"transitions": p, "rewards": np.array([0.0, 1.0, 0.0]), "initial": np.array([1.0, 0, 0]),
              "terminal": np.array([False, False, True])}
    more = arrays | {"expert": np.full((3, 2), 0.5), "places": np.arange(3)}
    return [_written(lambda path, one=one: np.savez(path, **one), "m.npz") for one in (arrays, more)]


def states() -> list[Files]:
    found = []
    for name in STATEFUL:
        env = NativeEnv(env_folders()[name], 3)
        env.reset()
        for _ in range(5):
            env.step(np.zeros_like(env.actions))
        known = replace(make_demos((2, 1)), states=env.env_states())
        found.append(_written(known.save, "d.npz") | {"name.txt": name.encode()})
    return found


def snapshots() -> list[Files]:
    found = []
    for name in STATEFUL:
        env = NativeEnv(env_folders()[name], 4)
        env.reset()
        for _ in range(5):
            env.step(np.zeros_like(env.actions))
        found.append({"name.txt": name.encode(), "state": env.get_state().tobytes()})
    return found


def python_states() -> list[Files]:
    found = []
    for name in ("CartPole-v1", "FrozenLake-v1", "Pendulum-v1"):
        with make_vec(name, num_envs=2, backend="serial", resumable=True) as vec:
            vec.reset()
            vec.step(np.zeros((2, vec.spec.action.dim), vec.spec.action.dtype))
            state = vec.get_state().get("environments", np.zeros(32, np.uint8))  # a busy machine finds it not exact
            found.append({"name.txt": name.encode(), "state": state.tobytes()})
    return found


def features() -> list[Files]:
    return [_written(lambda path: np.save(path, np.zeros((3, 2))), "f.npy")]


def trusted() -> list[Files]:
    return [{"puffer_il/trusted": b"0123abcd folder x\n4567 function a:b\n"}]


def words() -> list[Files]:
    said = (["train", "gail", "cartpole", "--total-steps", "2e5", "--ppo.learning-rate", "1e-3"],
            ["train", "bc", "cartpole", "--env.kwargs.gravity=9.9", "--policy.hidden", "64,64", "--seed", "3"],
            ["demos", "check", "d.npz", "--env", "cartpole", "--demos.subsample", "2", "--env.kwargs.a.b", "[1, 2]"],
            ["eval", "runs/a", "--episodes", "5", "--json"])
    return [{"words.json": json.dumps(one).encode()} for one in said]


def values() -> list[Files]:
    return [{"value.json": json.dumps(one).encode()} for one in
            (1, 0.5, "1e-3", "64,64", [64, 64], True, "true", {"a": 1}, "best", "{ a = 1 }", "auto", None)]


def pictures() -> list[Files]:
    return [{"p": b"\x03\x05"}, {"p": b"\xff\x01"}]
