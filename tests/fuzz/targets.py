"""Who is fuzzed: every reader of what comes from outside, with what its callers do next, and its valid inputs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import os
import random
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from puffer_il.cli import make_parser
from puffer_il.core import pictures
from puffer_il.core.checkpoint import fitting
from puffer_il.core.config import convert, read_toml
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.core.spec import Starts
from puffer_il.demos import describe, doubts, fit, load_demos, read_demos
from puffer_il.demos.build import trajectories
from puffer_il.demos.formats import puffer_il_shards, rlds
from puffer_il.demos.shard_writer import MANIFEST, seal
from puffer_il.learners.common.learned_reward import load_reward
from puffer_il.learners.experiment import build, section_types
from puffer_il.learners.maxent_irl import MaxEntIRL
from puffer_il.native.catalogue import env_folder, gymnasium_names
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import c_source
from puffer_il.native.native_env import NativeEnv, gymnasium_space
from puffer_il.rollout.policy_files import pickled, read_policy, vecnormalize
from puffer_il.training import run_dir
from puffer_il.training.loggers import JsonlLogger
from puffer_il.training.saved_run import load_policy
from puffer_il.training.trainer import train
from puffer_il.vector import trust
from puffer_il.vector.vec import make_vec
from tests.fuzz import logs, seeds
from tests.fuzz.engine import Target
from tests.fuzz.mutate import Files, as_json, member, mutated, tensors, text

SPEC, PARSER = seeds.SPEC, make_parser()


def demos(folder: Path) -> None:
    """What `demos info`, `demos check --env`, `demos export` and training do with a file."""
    path = folder / "d.npz"
    found = read_demos(path, 20)
    json.dumps(describe(found))
    doubts(found, SPEC)
    for more in (lambda: fit(found, SPEC), lambda: trajectories(found),
                 lambda: load_demos(path, SPEC, episodes=2, subsample=2, clip_actions=True, weighting="rank")):
        refusable(more)


def minari(folder: Path) -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    json.dumps(describe(read_demos("minari:own/toy-v0")))


def shards(folder: Path) -> None:
    found = read_demos(folder / "d")
    json.dumps(describe(found))
    doubts(found, SPEC)
    for more in (lambda: fit(found, SPEC), lambda: list(puffer_il_shards.parts(folder / "d", None, 64)),
                 lambda: puffer_il_shards.verify(folder / "d"),
                 lambda: load_demos(folder / "d", SPEC, episodes=2, subsample=2, clip_actions=True)):
        refusable(more)


def huggingface(folder: Path) -> None:
    json.dumps(describe(read_demos(folder / "d", 20)))


def log(folder: Path) -> None:
    """What `demos info` and `demos check` do with a table, a LeRobot folder or RLlib's files."""
    found = read_demos(folder / "d", 20)
    json.dumps(describe(found))
    doubts(found, SPEC)


def packed_pictures(folder: Path) -> None:
    """JPEGs and PNGs in the tables of LeRobot and the files of ALOHA."""
    for name in ("observation.image", "images/top"):
        refusable(lambda name=name: json.dumps(describe(read_demos(folder / "d", obs_columns=(name,)))))


def steps(folder: Path) -> None:
    """What is looked at of RLDS before its own package reads the rest."""
    rlds.check_features(folder / "d")


def config(folder: Path) -> None:
    """What `eval`, `train --resume` and `env play --policy` ask of a run's config."""
    os.environ["XDG_CACHE_HOME"] = str(folder.parent / "cache")  # where trust is kept
    loaded = run_dir.load_config(folder)
    loaded.to_toml()
    refusable(lambda: run_dir.environment_of(folder, None, {}))


def run_files(folder: Path) -> None:
    """What a resumed run looks at beside its checkpoint."""
    run_dir.is_finished(folder)
    logger = JsonlLogger()
    logger.start(SimpleNamespace(run_dir=str(folder)))  # type: ignore[arg-type]
    logger.log(20, {"loss": 1.0})
    logger.close()


def checkpoint(folder: Path) -> None:
    policy, _, state = load_policy(folder)
    policy.predict(np.zeros((2, *state["spec"].obs_shape), state["spec"].obs_dtype), deterministic=True)


def resume(folder: Path) -> None:
    """The rest of an interrupted run. What is odd in its numbers may make it diverge."""
    train(run_dir.load_config(folder), [], folder, resume=True)


def reward(folder: Path) -> None:
    loaded = load_reward(folder)
    spec = loaded.spec
    rows = np.zeros((2, *spec.obs_shape), spec.obs_dtype)
    loaded.predict(rows, np.zeros((2, spec.action.dim), spec.action.dtype), rows)


def policy(folder: Path) -> None:
    (path,) = (path for path in folder.iterdir() if path.suffix not in (".yaml", ".pkl"))
    found = read_policy(path, SPEC)
    rows = np.zeros((3, *SPEC.obs_shape), np.float32)
    _, state = found.predict(rows, deterministic=True)
    refusable(lambda: found.predict(rows, state, np.array([True, False, False]), deterministic=False))


def pickles(folder: Path) -> None:
    path = folder / "x.pkl"
    refusable(lambda: vecnormalize.read_statistics(path))
    try:
        found = pickled.read(path.read_bytes())
    except pickled.Unreadable as error:
        raise InputError(" ".join(str(error).split())[:200]) from None
    with contextlib.suppress(pickled.Unreadable):
        pickled.array(found)


def env_toml(folder: Path) -> None:
    """What `env list`, `env check` and every use of a C environment ask of its env.toml, short of compiling it."""
    (own,) = (path.parent for path in folder.rglob("env.toml"))
    env = read_env(own)
    c_source(env)
    gymnasium_space(env.observation), gymnasium_space(env.action)
    env.numbers(env.values({}))
    gymnasium_names(own)


def commonroad(folder: Path) -> None:
    """A scene, and some steps in it."""
    (path,) = folder.iterdir()
    stepped(NativeEnv(env_folder("ngsim"), 2, scene=str(path)))


def mdp(folder: Path) -> None:
    stepped(NativeEnv(env_folder("mdp"), 2, file=str(folder / "m.npz")))


def states(folder: Path) -> None:
    """Episodes that begin where a file of demonstrations says."""
    found = read_demos(folder / "d.npz")
    name = (folder / "name.txt").read_text()
    if found.states is not None:
        env = NativeEnv(env_folder(name), 4)
        env.begin_in(Starts(found.states, 1.0))
        stepped(env)


def snapshot(folder: Path) -> None:
    """An environment that goes on from a checkpoint's bytes."""
    name = (folder / "name.txt").read_text()
    env = NativeEnv(env_folder(name), 4)
    env.reset()
    try:
        env.set_state(np.frombuffer((folder / "state").read_bytes(), np.uint8))
    except ValueError as error:
        raise InputError(str(error)) from None
    stepped(env, reset=False)


def python_state(folder: Path) -> None:
    """The same of Python environments, whose state names no class."""
    name = (folder / "name.txt").read_text()
    with make_vec(name, num_envs=2, backend="serial", resumable=True) as vec:
        vec.reset()
        own = vec.get_state()
        state = np.frombuffer((folder / "state").read_bytes(), np.uint8)
        with fitting("checkpoint", "delete it"):
            vec.set_state(own | {"environments": state.reshape(1, -1)})
        try:
            for _ in range(5):
                vec.step(np.zeros((2, vec.spec.action.dim), vec.spec.action.dtype))
        except EnvFailure:  # numbers that nobody could step from
            return


def features(folder: Path) -> None:
    learner: Any = SimpleNamespace(config=SimpleNamespace(features=str(folder / "f.npy"), reward="state"))
    MaxEntIRL._features(learner, SimpleNamespace(num_states=3, num_actions=2))  # type: ignore[arg-type]


def trusted(folder: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(folder)
    trust._trusted()


def words(folder: Path) -> None:
    """Keys and values on the command line, as `train` turns them into a config."""
    from puffer_il.cli import overrides

    given = given_in(folder / "words.json")
    given = [str(word) for word in given] if isinstance(given, list) else [str(given)]
    keys, rest = overrides.split(given)
    try:
        args, _ = PARSER.parse_known_args(rest)
    except SystemExit:  # --help
        return
    algo = getattr(args, "algo", None) or "gail"
    if algo not in ("gail", "bc", "ppo", "sac", "maxent_irl"):
        return
    refusable(lambda: overrides.env_kwargs(keys))
    refusable(lambda: overrides.demo_keys(keys))
    build(algo, [("command line", overrides.override(key, value)) for key, value in keys]).to_toml()


def given_in(path: Path) -> Any:
    """What a file of JSON says, or its text."""
    text = path.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")  # as a shell hands it on
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.split()


def values(folder: Path) -> None:
    """One value of every key, from TOML and as it is typed."""
    import dataclasses

    given = given_in(folder / "value.json")
    for section, kind in section_types("airl").items():
        for one in dataclasses.fields(kind):
            for value in (given, str(given)):
                refusable(lambda value=value, kind=kind, one=one, key=f"{section}.{one.name}":
                          convert(key, value, kind, one))
    refusable(lambda: read_toml(folder / "value.json"))


def shown_pictures(folder: Path) -> None:
    """Pictures are only written: of any size, as PNG."""
    height, width, *_ = [*np.frombuffer((folder / "p").read_bytes()[:2].ljust(2, b"\1"), np.uint8), 1, 1]
    frame = np.zeros((max(1, int(height)), max(1, int(width)), 3), np.uint8)
    pictures.png(pictures.resized(frame, 1 + int(width) % 40, 1 + int(height) % 40))


def refusable(call: Any) -> None:
    """What may be refused without an end to the rest."""
    from puffer_il.cli.parser import UsageError

    try:
        call()
    except (InputError, UsageError) as error:
        assert "\n" not in str(error), "not one line"


def stepped(env: NativeEnv, reset: bool = True) -> None:
    if reset:
        env.reset()
    for _ in range(8):
        env.step(np.zeros_like(env.actions))
    env.close()


def changed_text(rng: random.Random, files: Files) -> Files:
    """Of an environment's folder: mostly env.toml, sometimes its header, never what they are called."""
    end = "env.toml" if rng.random() < 0.9 else ".h"
    name = next(name for name in files if name.endswith(end))
    return files | {name: (member(name) if name.endswith(".toml") else text)(rng, files[name])}


def changed_words(rng: random.Random, files: Files) -> Files:
    (name, data), = files.items()
    return {name: as_json(rng, data)}


def changed_shards(rng: random.Random, files: Files) -> Files:
    """Mostly with a right checksum, so that what the manifest says is looked at."""
    changed = mutated(rng, files)
    name = f"d/{MANIFEST}"
    with contextlib.suppress(Exception):
        manifest = json.loads(changed[name])
        if rng.random() < 0.8:
            changed[name] = json.dumps(manifest | {"sha256": seal(manifest)}).encode()
    return changed


def changed_checkpoint(rng: random.Random, files: Files) -> Files:
    """Not its config, which may ask for any amount of work."""
    (name,) = (name for name in files if name.endswith(".pt"))
    return files | {name: tensors(rng, files[name])}


def changed_state(rng: random.Random, files: Files) -> Files:
    return files | mutated(rng, {"state": files["state"]})


def changed_hdf5(rng: random.Random, files: Files) -> Files:
    """Mostly a member or an attribute, so that the file itself still opens."""
    if rng.random() < 0.2:
        return mutated(rng, files)
    import h5py

    made = io.BytesIO(files["d.npz"])
    try:
        with h5py.File(made, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            name = rng.choice(names)
            if rng.random() < 0.15:
                file[name].attrs[rng.choice([*file[name].attrs, "total", "success", "_size", "__data_type__"])] = (
                    rng.choice(seeds.STRANGE))
            else:
                array = file[name][...] if isinstance(file[name], h5py.Dataset) else None
                del file[name]
                _put(rng, file, name, array)
    except Exception:  # changed before
        return mutated(rng, files)
    return {"d.npz": made.getvalue()}


def _put(rng: random.Random, file: Any, name: str, array: Any) -> None:
    """Something else where a member was."""
    import h5py

    rest = [one for one in file if one != name] or [name]
    links = [h5py.SoftLink(f"/{rng.choice(rest)}"), h5py.ExternalLink("d.npz", "/")]
    choices: list[Any] = [None, *links, "group", "large", *seeds.STRANGE]
    if array is not None and array.ndim:
        choices += [array[:-1], array[::-1], np.repeat(array, 2, 0), array[..., None], array.reshape(-1)] * 3
    chosen = choices[rng.randrange(len(choices))]
    if isinstance(chosen, str) and chosen == "group":
        file.create_group(f"{name}/{rng.choice(['0', 'a', '_index_0', 'obs'])}")
    elif isinstance(chosen, str) and chosen == "large":
        file.create_dataset(name, (2**rng.randrange(60), 3), "f4", chunks=(16, 3))
    elif chosen is not None:
        file[name] = chosen


def changed_states(rng: random.Random, files: Files) -> Files:
    """Mostly the states themselves."""
    try:
        with zipfile.ZipFile(io.BytesIO(files["d.npz"])) as given:
            members = {name: given.read(name) for name in given.namelist()}
        members |= mutated(rng, {"states.npy": members["states.npy"]})
    except Exception:  # changed before
        return files | mutated(rng, {"d.npz": files["d.npz"]})
    if rng.random() < 0.2:
        return files | mutated(rng, {"d.npz": files["d.npz"]})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data)
    return files | {"d.npz": packed.getvalue()}


def _targets() -> list[Target]:
    have = {name: importlib.util.find_spec(name) is not None
            for name in ("h5py", "minari", "pyarrow", "onnxruntime", "stable_baselines3", "PIL")}
    targets = [
        Target("demos", seeds.demos, demos),
        Target("table", logs.tables, log),
        Target("rllib", logs.rllibs, log),
        Target("plain", logs.structured, log),
        Target("rlds", logs.features, steps),
        Target("puffer_il_shards", seeds.shards, shards, changed_shards),
        Target("config", seeds.configs, config),
        Target("run_files", seeds.run_files, run_files),
        Target("checkpoint", seeds.checkpoints, checkpoint),
        Target("resume", seeds.resumed, resume, changed_checkpoint),
        Target("reward", seeds.rewards, reward),
        Target("policy", seeds.policies, policy),
        Target("torchscript", seeds.torchscripts, policy, foreign=True),
        Target("pickle", seeds.pickles, pickles),
        Target("env_toml", seeds.env_tomls, env_toml, changed_text),
        Target("commonroad", seeds.scenes, commonroad),
        Target("mdp", seeds.mdps, mdp),
        Target("states", seeds.states, states, changed_states),
        Target("snapshot", seeds.snapshots, snapshot, changed_state),
        Target("python_state", seeds.python_states, python_state, changed_state),
        Target("features", seeds.features, features),
        Target("trusted", seeds.trusted, trusted),
        Target("words", seeds.words, words, changed_words),
        Target("values", seeds.values, values, changed_words),
        Target("pictures", seeds.pictures, shown_pictures),
    ]
    if have["h5py"]:
        targets.append(Target("hdf5", seeds.hdf5, demos, changed_hdf5, foreign=True))
    if have["minari"]:
        targets.append(Target("minari", seeds.minari, minari, foreign=True))
    if have["pyarrow"]:
        targets.append(Target("huggingface", seeds.huggingface, huggingface, foreign=True))
        targets.append(Target("parquet", logs.parquets, log, foreign=True))
        targets.append(Target("lerobot", logs.lerobots, log, foreign=True))
    if have["pyarrow"] and have["h5py"] and have["PIL"]:
        targets.append(Target("packed_pictures", logs.packed_pictures, packed_pictures, foreign=True))
    if have["onnxruntime"]:
        importlib.import_module("onnxruntime").set_default_logger_severity(4)  # of each refused file it would write
        targets.append(Target("onnx", seeds.onnx, policy, foreign=True))
    if have["stable_baselines3"]:
        importlib.import_module("stable_baselines3")  # once, and not in each child
        targets.append(Target("sb3", seeds.stable_baselines, policy))
    return targets


TARGETS = {target.name: target for target in _targets()}
