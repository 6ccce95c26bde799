"""NativeEnv on environments made on the spot; what every shipped one must do is in the contract test."""

import shutil
import subprocess
import sys
import threading
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import compile_env
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.pufferlib import pufferlib
from puffer_il.native.vec_api import load_api
from tests.support.environments import FOLDERS, write_env

PAIR_TOML = """
agents = 2
max_episode_steps = 6
[observation]
dtype = "int16"
shape = [2]
low = [0, 0]
high = [100, 1]
[action]
discrete = [3, 5]
[parameters]
first = 3
second = 4
both = false
"""
PAIR = """
typedef struct { int32_t step; } Env;

static inline void c_reset(Env *env, Io io) {
    env->step = 0;
    for (int a = 0; a < ENV_AGENTS; a++) {
        io.observations[a * ENV_OBS_SIZE] = 0;
        io.observations[a * ENV_OBS_SIZE + 1] = a;
    }
}

static inline void c_step(Env *env, Io io) {
    env->step++;
    for (int a = 0; a < ENV_AGENTS; a++) {
        io.observations[a * ENV_OBS_SIZE] = env->step;
        io.observations[a * ENV_OBS_SIZE + 1] = a;
        io.rewards[a] = 10 * io.actions[a * ENV_ACTION_SIZE] + io.actions[a * ENV_ACTION_SIZE + 1];
    }
    io.terminations[0] = env->step >= io.params->first;
    io.truncations[0] = io.params->both;
    io.truncations[1] = env->step >= io.params->second;
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return write_env(tmp_path, "pair", PAIR_TOML, PAIR)


def test_pufferlib_is_imported_without_torch_or_traces(tmp_path: Path):
    code = """
import sys, warnings, os
import gymnasium
before = list(warnings.filters), os.getcwd()
from puffer_il.native.pufferlib import pufferlib as package
assert package is sys.modules["pufferlib"]
assert "torch" not in sys.modules and "pufferlib.pytorch" not in sys.modules
assert (warnings.filters, os.getcwd()) == before
assert package.vector.Serial and package.emulation.GymnasiumPufferEnv
try:
    package.vector.make(lambda: None, num_envs=0)
except package.APIUsageError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (0, "", []), done.stderr


def test_import_guards_what_a_careless_pufferlib_does(tmp_path: Path):
    """A stand-in that prints, leaves the folder, adds a filter, and needs its torch modules to be absent."""
    package = tmp_path / "pufferlib"
    package.mkdir()
    (package / "__init__.py").write_text("""
import os, warnings
print("hello"); os.chdir("/"); warnings.simplefilter("ignore")
try:
    from . import pytorch
    raise SystemExit("torch was imported")
except ImportError:
    pass
from . import pufferlib
PufferEnv = pufferlib.PufferEnv
""")
    (package / "pytorch.py").write_text("value = 1")
    (package / "pufferlib.py").write_text("""
class APIUsageError(RuntimeError): pass
class InvalidAgentError(ValueError): pass
class PufferEnv: pass
""")
    code = """
import os, sys, warnings
import gymnasium
before = list(warnings.filters), os.getcwd()
import puffer_il.native.native_env
assert (warnings.filters, os.getcwd()) == before
import pufferlib.pytorch
assert pufferlib.pytorch.value == 1
"""
    work = tmp_path / "work"
    work.mkdir()
    paths = [str(tmp_path), str(Path(__file__).parents[2])]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {paths}\n{code}"], cwd=work,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_agents_leave_one_by_one(pair: Path):
    env = NativeEnv(pair, 2)
    assert env.reset()[0].tolist() == [[0, 0], [0, 1]] * 2
    seen = []
    for _ in range(8):
        env.final_observations[:] = -1
        obs, rewards, terminals, truncations, _ = env.step(np.tile([[2, 4], [1, 3]], (2, 1)))
        assert obs[:2].tolist() == obs[2:].tolist()
        seen.append([x[:2].tolist() for x in (obs[:, 0], rewards, terminals, truncations, env.masks,
                                              env.final_observations[:, 0])])
    going = [[24, 13], [False, False], [False, False], [True, True], [-1, -1]]
    first_ends = [[24, 13], [True, False], [False, False], [True, True], [3, -1]]
    second_ends = [[0, 13], [False, False], [False, True], [False, True], [-1, 4]]
    episode = [[[1, 1], *going], [[2, 2], *going], [[3, 3], *first_ends], [[0, 0], *second_ends]]
    assert seen == episode * 2


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_reset_clears_what_the_last_step_left(pair: Path, steps: int):
    env = NativeEnv(pair)
    env.reset()
    for _ in range(steps):
        env.step(np.ones((2, 2), np.int32))
    assert env.rewards.any() and (env.terminals.any(), env.truncations.any(), env.masks.all()) == (
        steps == 3, steps == 4, steps < 4)
    env.reset()
    assert env.masks.all() and not (env.rewards.any() or env.terminals.any() or env.truncations.any())


def test_time_limit_cuts_those_who_are_left(pair: Path):
    env = NativeEnv(pair, first=2, second=100)
    env.reset()
    ends = []
    for _ in range(6):
        _, _, terminals, truncations, _ = env.step(env.actions)
        ends.append([*terminals.tolist(), *truncations.tolist()])
    nothing = [False] * 4
    assert ends == [nothing, [True, False, False, False], nothing, nothing, nothing, [False, False, False, True]]
    assert env.observations[:, 0].tolist() == [0, 0]


def test_termination_wins_over_truncation(pair: Path):
    env = NativeEnv(pair, first=1, second=1, both=True)
    env.reset()
    env.step(env.actions)
    assert (env.terminals.tolist(), env.truncations.tolist()) == ([True, False], [False, True])


def test_agents_that_restart_by_themselves(tmp_path: Path):
    folder = write_env(tmp_path, "crowd", """
agents = 3
autoreset = false
[observation]
dtype = "uint8"
shape = [1, 1, 2]
low = 0
high = 255
[action]
discrete = 2
""", """
typedef struct { int32_t age[ENV_AGENTS]; } Env;

static inline void c_reset(Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++)
        io.observations[2 * a] = io.observations[2 * a + 1] = 100 + (env->age[a] = 0);
}

static inline void c_step(Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++) {
        env->age[a]++;
        io.rewards[a] = 1;
        if (env->age[a] == a + 2) {
            io.final_observations[2 * a] = io.final_observations[2 * a + 1] = env->age[a];
            io.terminations[a] = io.truncations[a] = true;
            env->age[a] = 0;
        }
        io.observations[2 * a] = io.observations[2 * a + 1] = env->age[a];
    }
}
""")
    env = NativeEnv(folder)
    assert (env.reset()[0] == 100).all()
    for t in range(1, 25):
        obs, rewards, terminals, truncations, _ = env.step(env.actions)
        periods = np.array([2, 3, 4])
        assert obs[:, 0, 0, 0].tolist() == (t % periods).tolist() == obs[:, 0, 0, 1].tolist()
        assert (t % periods == 0).tolist() == terminals.tolist()
        assert not truncations.any() and env.masks.all() and (rewards == 1).all()
        assert (env.final_observations[terminals, 0, 0, 0] == periods[terminals]).all()
    with pytest.raises(InputError, match="max_episode_steps = 5"):
        NativeEnv(folder, max_episode_steps=5)


def test_box_actions_arrive_clipped_and_shaped(tmp_path: Path):
    folder = write_env(tmp_path, "echo", """
[observation]
dtype = "float32"
shape = [2, 2]
low = -inf
high = inf
[action]
dtype = "float32"
shape = [2, 2]
low = [-1.0, -inf, 0.0, -2.5]
high = [1.0, inf, 0.0, 2.5]
""", """
typedef struct { int unused; } Env;
static inline void c_reset(Env *env, Io io) { memset(io.observations, 0, ENV_OBS_SIZE * sizeof(Obs)); }
static inline void c_step(Env *env, Io io) { memcpy(io.observations, io.actions, ENV_OBS_SIZE * sizeof(Obs)); }
""")
    env = NativeEnv(folder, 2)
    env.reset()
    given = np.array([[[5, 5], [5, 5]], [[np.nan, 7], [-1, -np.inf]]])
    assert env.step(given)[0].tolist() == [[[1, 5], [0, 2.5]], [[-1, 7], [0, -2.5]]]
    assert env.actions.tolist()[0] == given.tolist()[0]  # the buffer keeps what was asked for
    assert env.step(given.reshape(-1))[0][0].tolist() == [[1, 5], [0, 2.5]]


def test_actions_must_fit(pair: Path):
    env = NativeEnv(pair)
    with pytest.raises(pufferlib.APIUsageError, match="pair: call reset before step"):
        env.step(env.actions)
    env.reset()
    assert env.step(np.array([[1, 2], [2, 1]], np.int64))[1].tolist() == [12, 21]
    assert env.step([1, 2, 2, 1])[1].tolist() == [12, 21]
    with pytest.raises(ValueError, match=r"size 3 into shape \(2,2\)"):
        env.step(np.zeros(3, np.int32))
    with pytest.raises(TypeError, match=r"float64.*int32"):
        env.step(np.zeros((2, 2)))


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("actions", np.zeros((2, 2), np.int64), r"buffer actions is int64 \(2, 2\), but must be int32 \(2, 2\)"),
    ("observations", np.zeros((3, 2), np.int16), r"observations is int16 \(3, 2\), but must be int16 \(2, 2\)"),
    ("rewards", np.zeros(4, np.float32)[::2], "rewards is float32 .* contiguous"),
    ("terminals", np.zeros(2, np.uint8), "terminals is uint8"),
    ("final_observations", np.zeros((2, 2), np.float32), "final_observations is float32"),
])
def test_buffers_must_fit(pair: Path, name: str, wrong: np.ndarray, message: str):
    env = NativeEnv(pair)
    names = ("actions", "observations", "rewards", "terminals", "truncations", "masks")
    with pytest.raises(ValueError, match=message):
        NativeEnv(pair, buf={key: getattr(env, key) for key in names} | {name: wrong})


def test_seed_of_any_size_and_reset_without_one():
    env = NativeEnv(FOLDERS["cartpole"], seed=np.int64(5))
    first = env.reset()[0].copy()
    second = env.reset()[0].copy()
    assert (first != second).any()
    assert (env.reset(5)[0] == first).all() and (env.reset()[0] == second).all()
    assert (env.reset(5 + 2**64)[0] == first).all() and (env.reset(-1)[0] != first).all()
    neighbours = {tuple(NativeEnv(FOLDERS["cartpole"], seed=s, first_env=i).reset()[0][0])
                  for s in range(8) for i in range(8)}
    assert len(neighbours) == 64  # no (seed, index) repeats another


def test_a_seed_forgets_what_a_reset_forgot(tmp_path: Path):
    """c_reset leaves a field alone: the episode depends on the one before, but not across a seed."""
    folder = write_env(tmp_path, "leaky", """
[observation]
dtype = "int32"
shape = [1]
low = 0
high = 9
[action]
discrete = 2
""", """
typedef struct { int32_t count; } Env;
static inline void c_reset(Env *env, Io io) { io.observations[0] = env->count; }
static inline void c_step(Env *env, Io io) { io.observations[0] = ++env->count; }
""")
    env = NativeEnv(folder)
    assert [env.reset(1)[0].item(), env.step([0])[0].item(), env.reset()[0].item()] == [0, 1, 1]
    assert env.reset(1)[0].item() == 0


@pytest.mark.parametrize("num_envs", [0, -3])
def test_number_of_environments(num_envs: int):
    with pytest.raises(InputError, match=f"cartpole: num_envs = {num_envs}: must be at least 1"):
        NativeEnv(FOLDERS["cartpole"], num_envs)


def test_step_lets_other_threads_run(tmp_path: Path):
    folder = write_env(tmp_path, "slow", """
[observation]
dtype = "float32"
shape = [1]
low = 0
high = 1
[action]
discrete = 2
[parameters]
rounds = 1
""", """
typedef struct { int unused; } Env;
static inline void c_reset(Env *env, Io io) { io.observations[0] = 0; }
static inline void c_step(Env *env, Io io) {
    for (int64_t k = 0; k < io.params->rounds; k++)
        io.observations[0] = rng_double(io.rng) < 0.5;
}
""")
    env = NativeEnv(folder, rounds=30_000_000)
    env.reset()
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    before, start = ticks[0], time.perf_counter()
    env.step(env.actions)
    ran, seconds = ticks[0] - before, time.perf_counter() - start
    stop.set()
    thread.join()
    assert ran >= 3, f"{ran} ticks in {seconds:.2f} s"


@pytest.mark.parametrize("left_behind", ["of other sources", "not a library"])
def test_stale_library_is_not_used(tmp_path: Path, left_behind: str):
    """Next to changed sources lies a compiled environment that does not belong to them."""
    folder = tmp_path / "cartpole"
    shutil.copytree(FOLDERS["cartpole"], folder)
    header = folder / "cartpole.h"
    header.write_text(header.read_text().replace("-0.05, 0.05", "0.04, 0.05"))
    if left_behind == "not a library":
        for library in folder.glob("*.so"):
            library.write_bytes(b"nothing")
    assert list(folder.glob("*.so"))
    assert NativeEnv(folder, 16).reset()[0].min() >= 0.04
    assert NativeEnv(FOLDERS["cartpole"], 16).reset()[0].min() < 0


def test_library_beside_the_sources_of_an_installed_environment_is_used(pair: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("puffer_il.native.vec_api.env_folders", lambda: {"pair": pair.resolve()})
    shutil.copy(compile_env(read_env(pair)), pair / f"_pair{EXTENSION_SUFFIXES[0]}")
    monkeypatch.setattr("puffer_il.native.vec_api.compile_env", lambda env: pytest.fail("compiled again"))
    assert load_api(read_env(pair)).agents == 2
