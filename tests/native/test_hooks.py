"""What an environment may have beyond reset and step: expert, states, pictures, logs, arrays, memory of its own."""

from pathlib import Path

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.terminal import picture_lines
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import hooks
from puffer_il.native.gymnasium_env import GymnasiumEnv, GymnasiumVectorEnv
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.pufferlib import pufferlib
from puffer_il.rollout.evaluate import evaluate
from puffer_il.vector.vec import make_vec
from tests.support.environments import write_env

TOML = """
description = "walks along a table of rewards until its end"
agents = "walkers"
max_episode_steps = 9
log = ["steps", "fast"]
state = 2
[observation]
dtype = "float32"
shape = ["1 + walkers * (2 + detailed)"]
low = -inf
high = inf
[action]
discrete = "speeds"
[parameters]
walkers = { default = 2, low = 1 }
speeds = 3
detailed = false
kind = { default = "plain 1", choices = ["plain 1", "double"] }
file = ""
[data]
table = "float64"
[render]
width = 32
height = 24
fps = 10
"""
HEADER = """
typedef struct { double at, last; } Env;
static inline void observe(const Env *env, Io io) {
    for (int i = 0; i < ENV_AGENTS * ENV_OBS_SIZE; i++)
        io.observations[i] = (float)env->at;
}
static inline void c_reset(Env *env, Io io) {
    env->at = env->last = rng_below(io.rng, 3);
    observe(env, io);
}
static inline void c_step(Env *env, Io io) {
    env->last = io.actions[0];
    env->at += env->last * (io.params->kind == KIND_DOUBLE ? 2 : 1);
    io.log->steps += 1;
    io.log->fast += io.actions[0] == 2;
    for (int a = 0; a < ENV_AGENTS; a++) {
        io.rewards[a] = (float)io.data->table[(int64_t)env->at % io.data->table_size];
        io.terminations[a] = env->at > 12;
    }
    observe(env, io);
}
static inline void c_expert(const Env *env, Io io, Action *actions) {
    for (int a = 0; a < ENV_AGENTS; a++)
        actions[a] = (Action)rng_below(io.rng, 3);
}
static inline void c_get_state(const Env *env, Io io, double *state) { state[0] = env->at; state[1] = env->last; }
static inline void c_set_state(Env *env, Io io, const double *state) {
    env->at = state[0];
    env->last = state[1];
    observe(env, io);
}
static void c_render(const Env *env, Io io, Canvas *canvas) {
    canvas_rect(canvas, env->at, 4, 8, 8, CANVAS_RED);
}
"""
LOAD = """
import numpy as np
calls = []
def load(walkers, speeds, file, table=None, **rest):
    calls.append(1)
    return {"table": np.arange(5.0) if table is None else table, "speeds": speeds + len(file)}
"""

ONES = np.ones(3, np.int32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_env(tmp_path, "walk", TOML, HEADER)
    (folder / "walk.py").write_text(LOAD)
    return folder


def edited(folder: Path, old: str, new: str, name: str = "walk.h") -> Path:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return folder


def test_sizes_follow_parameters(folder: Path):
    for walkers, detailed, size in ((2, False, 5), (1, True, 4), (3, True, 10)):
        env = NativeEnv(folder, 4, walkers=walkers, detailed=detailed)
        assert env.reset()[0].shape == (4 * walkers, size)
        env.step(np.ones(4 * walkers, np.int32))
    with pytest.raises(InputError, match=r"agents: 'walkers' makes 0, but it must be a whole number from 1"):
        read_env(edited(folder, "low = 1 ", "low = 0 ", "env.toml"), {"walkers": 0})


@pytest.mark.parametrize("expression", ["walkers / 2", "nobody + 1", "walkers(2)", "2 **", "'x'", "1.5"])
def test_expressions_are_sums_and_products_of_parameters(folder: Path, expression: str):
    edited(folder, "1 + walkers * (2 + detailed)", expression, "env.toml")
    with pytest.raises(InputError, match=r"env\.toml: observation\.shape: ") as error:
        read_env(folder)
    assert "\n" not in str(error.value)


def test_choices_are_names(folder: Path):
    plain, double = (NativeEnv(folder, seed=1, kind=kind) for kind in ("plain 1", "double"))
    for env in (plain, double):
        env.reset()
        env.step(np.ones(2, np.int32))
    assert double.observations[0, 0] == plain.observations[0, 0] + 1
    with pytest.raises(InputError, match="environment walk: kind = 'other': choose one of plain 1, double"):
        NativeEnv(folder, kind="other")


def test_one_build_serves_any_number_of_choices(folder: Path):
    for speeds in (2, 9):
        env = NativeEnv(folder, speeds=speeds)
        start = env.reset()[0][0, 0].copy()
        assert env.single_action_space.n == speeds
        env.step(np.full(2, 100))  # clipped to the last
        assert env.env_states()[0, 1] == speeds - 1 or start + speeds - 1 > 12
    from puffer_il.native.glue import source_hash

    assert source_hash(read_env(folder, {"speeds": 2})) == source_hash(read_env(folder, {"speeds": 9}))


def test_arrays_come_from_the_caller_or_from_load(folder: Path):
    def rewards(**options) -> list:
        env = NativeEnv(folder, 3, seed=2, **options)
        env.reset()
        env.step(np.ones(6, np.int32))
        return env.rewards.tolist()

    at = NativeEnv(folder, 3, seed=2)
    at.reset()
    places = (at.env_states()[:, 0] + 1).repeat(2)
    assert rewards() == (places % 5).tolist()
    assert rewards(table=np.full(7, 4, np.int64)) == [4.0] * 6
    assert NativeEnv(folder, file="ab").single_action_space.n == 5  # what load decides
    with pytest.raises(InputError, match="table is an array of complex128; it must be one of float64"):
        NativeEnv(folder, table=np.ones(3, complex))
    edited(folder, '"table": np', '"tabel": np', "walk.py")
    with pytest.raises(InputError, match=r"load\(\) returned 'tabel', which is neither in \[data\]"):
        NativeEnv(folder)
    (folder / "walk.py").unlink()
    with pytest.raises(InputError, match="the array table is missing; give it as the keyword argument table, float64"):
        NativeEnv(folder)


def test_arrays_travel_to_workers(folder: Path):
    with make_vec(str(folder), num_envs=8, backend="multiprocessing", num_workers=2,
                  kwargs={"table": np.full(3, 7.0)}) as vec:
        vec.reset(0)
        assert vec.step(np.ones((8, 1), np.int32)).rewards.tolist() == [7.0] * 8


def test_the_expert_has_numbers_of_its_own(folder: Path):
    env, unasked = (NativeEnv(folder, 50, seed=3) for _ in range(2))
    env.reset(), unasked.reset()
    asked = [env.expert_actions() for _ in range(2)]
    assert (asked[0] != asked[1]).any()
    for _ in range(20):
        actions = env.expert_actions()
        env.step(actions), unasked.step(actions)
    assert env.observations.tobytes() == unasked.observations.tobytes()
    saved = env.get_state()
    drawn = env.expert_actions()
    env.set_state(saved)
    assert (env.expert_actions() == drawn).all()  # its generator is saved too


@pytest.mark.parametrize("workers", [0, 2])
def test_logs_are_means_over_the_episodes_that_ended(folder: Path, workers: int):
    backend = "multiprocessing" if workers else "native"
    with make_vec(str(folder), num_envs=8, backend=backend, num_workers=workers, seed=4) as vec:
        vec.reset()
        assert vec.pop_log_means() == {}
        for _ in range(9):  # at one per step nobody gets to 12 before the limit
            vec.step(np.ones((8, 1), np.int32))
        assert vec.pop_log_means() == {"steps": 9.0, "fast": 0.0}
        for _ in range(5):
            vec.step(np.full((8, 1), 2, np.int32))
        assert vec.pop_log_means() == {}
        for _ in range(4):
            vec.step(np.full((8, 1), 2, np.int32))
        ended = vec.pop_log_means()
        assert 6 <= ended["steps"] <= 7 and ended["fast"] == ended["steps"]


def test_evaluation_counts_the_logs_of_its_own_episodes(folder: Path):
    with make_vec(str(folder), num_envs=8, seed=4) as vec:
        scores = evaluate(vec, lambda obs, starts: np.full((8, 1), 1, np.int32), 12, seed=1)
    assert scores.log == {"steps": 9.0, "fast": 0.0} and (scores.lengths == 9).all()
    assert scores.summary(None, None)["log"] == scores.log


def test_pictures_in_a_single_environment(folder: Path):
    env = GymnasiumEnv(folder, "rgb_array", walkers=1)
    env.reset(seed=1)
    picture = env.render()
    assert picture.shape == (24, 32, 3) and (picture[8, 4:6] == (0xC5, 0x30, 0x30)).all()
    assert env.metadata["render_fps"] == 10
    vec = GymnasiumVectorEnv(folder, 2, "rgb_array", walkers=1)
    vec.reset(seed=1)
    assert (vec.render()[0] == picture).all() and len(vec.render()) == 2
    text = GymnasiumEnv(folder, "ansi", walkers=1)
    text.reset(seed=1)
    assert text.render() == "\n".join(picture_lines(picture, 80))
    assert GymnasiumEnv(folder, walkers=1).render() is GymnasiumVectorEnv(folder, walkers=1).render() is None
    with pytest.raises(InputError, match="render_mode = 'human': choose one of rgb_array, ansi"):
        GymnasiumEnv(folder, "human", walkers=1)


def test_what_goes_together_must_be_there_together(folder: Path):
    assert hooks(read_env(folder)) == {"EXPERT", "STATE", "RENDER"}
    with pytest.raises(InputError, match=r"walk\.h defines c_get_state; add state = n"):
        hooks(read_env(edited(folder, "state = 2\n", "", "env.toml")))
    edited(folder, 'log = ["steps", "fast"]', 'log = ["steps", "fast"]\nstate = 2', "env.toml")
    edited(folder, "static inline void c_get_state", "// static inline void c_get_state(const Env *env) {\nvoid got")
    with pytest.raises(InputError, match="there is c_set_state but no c_get_state; they go together"):
        hooks(read_env(folder))


COPIED = """
typedef struct {
    double at, speeds[2];  /* int would not do; */
} Env;
static inline void c_observe(const Env *env, Io io) { io.observations[0] = (float)env->at; }
static inline void c_reset(Env *env, Io io) {
    *env = (Env){rng_double(io.rng), {1, 2}};
    c_observe(env, io);
}
static inline void c_step(Env *env, Io io) {
    env->at += env->speeds[io.actions[0]];
    c_observe(env, io);
}
"""
COPIED_TOML = """
state = 3
[observation]
dtype = "float32"
shape = [1]
low = -inf
high = inf
[action]
discrete = 2
"""


def test_an_env_of_doubles_alone_is_its_state(tmp_path: Path):
    env = NativeEnv(write_env(tmp_path, "copied", COPIED_TOML, COPIED), 2)
    env.reset(1)
    assert (env.env_states()[:, 1:] == [1, 2]).all() and (env.env_states()[:, 0] > 0).all()
    env.set_env_states(np.array([[5.0, 6.0, 7.0]]), np.array([1]))
    assert env.observations[1] == 5
    assert env.step(np.array([0, 1]))[0][1] == 12 and env.state_size == 3


@pytest.mark.parametrize("field", ["double *at, speeds[2];", "int64_t at; double speeds[2];", "Io *at; double b[2];",
                                   "double at; struct { double speeds[2]; };", "double at, (*speeds)[2];"])
def test_an_env_of_anything_else_is_not_copied(tmp_path: Path, field: str):
    folder = write_env(tmp_path, "copied", COPIED_TOML, COPIED.replace("double at, speeds[2];", field))
    with pytest.raises(InputError, match=r"copied.h defines no c_get_state; c_get_state and c_set_state, or c_observe "
                       "and an Env of doubles alone, must be there with state = n"):
        NativeEnv(folder)


def test_the_number_of_doubles_must_be_right(tmp_path: Path):
    with pytest.raises(InputError, match="`state` is the number of doubles in Env"):
        NativeEnv(write_env(tmp_path, "copied", COPIED_TOML.replace("state = 3", "state = 2"), COPIED))


READER = """
#include <stdio.h>
typedef struct { int first; } Env;
static inline void c_reset(Env *env, Io io) {
    FILE *file = fopen((const char *)io.data->map, "r");
    env->first = file ? fgetc(file) : -1;
    if (file)
        fclose(file);
    io.observations[0] = (float)env->first;
}
static inline void c_step(Env *env, Io io) { io.observations[0] = (float)env->first; }
"""
READER_TOML = """
[observation]
dtype = "float32"
shape = [1]
low = -inf
high = inf
[action]
discrete = 2
[parameters]
size = { default = "small", choices = ["small", "large"] }
path = ""
[data.map]
file = { small = "s.txt", large = "maps/l.txt" }
parameter = "path"
"""


def test_c_reads_a_file_beside_env_toml_or_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_env(tmp_path, "reader", READER_TOML, READER)
    (folder / "maps").mkdir()
    for path in (folder / "s.txt", folder / "maps" / "l.txt", tmp_path / "other.txt"):
        path.write_text(path.name)
    monkeypatch.chdir(tmp_path)
    mine = np.frombuffer(bytes(tmp_path / "other.txt") + b"\0", np.uint8)
    for given, first in (({}, "s"), ({"size": "large"}, "l"), ({"path": "other.txt"}, "o"), ({"map": mine}, "o")):
        assert NativeEnv(folder, **given).reset()[0] == ord(first)
    with pytest.raises(InputError, match=r"reader: path = 'no.txt': there is no such file; give the path of a map"):
        NativeEnv(folder, path="no.txt")
    (folder / "s.txt").unlink()
    with pytest.raises(InputError, match=r"reader: map = '.*reader/s.txt': there is no such file; put it there"):
        NativeEnv(folder)
    (folder / "env.toml").write_text(READER_TOML + 'package = "no_such"')
    with pytest.raises(InputError, match=r"map = 'no_such/s.txt': there is no such file; pip install no_such"):
        NativeEnv(folder)


OWN_MEMORY = """
#include <stdlib.h>
typedef struct { double *place; } Env;
static const char *c_share(const Params *params, const Data *data, void **shared) {
    if (params->broken == 1)
        return "nothing to share";
    double *made = malloc(sizeof(double));
    *made = 10;
    *shared = made;
    return NULL;
}
static void c_unshare(void *shared) { free(shared); }
static const char *c_open(Env *env, Io io) {
    if (io.params->broken == 2)
        return "no memory";
    env->place = calloc(1, sizeof(double));
    return NULL;
}
static void c_close(Env *env) { free(env->place); }
static inline void c_reset(Env *env, Io io) {
    *env->place = rng_double(io.rng);
    io.observations[0] = (float)*env->place;
}
static inline void c_step(Env *env, Io io) {
    *env->place += io.actions[0] * *(const double *)io.shared + rng_double(io.rng);
    io.observations[0] = (float)*env->place;
}
static inline void c_get_state(const Env *env, Io io, double *state) { state[0] = *env->place; }
static inline void c_set_state(Env *env, Io io, const double *state) {
    *env->place = state[0];
    io.observations[0] = (float)*env->place;
}
"""
OWN_MEMORY_TOML = """
description = "keeps its state elsewhere"
max_episode_steps = 6
state = 1
[observation]
dtype = "float32"
shape = [1]
low = -inf
high = inf
[action]
discrete = 2
[parameters]
broken = 0
"""


def test_memory_of_its_own_is_opened_saved_and_closed(tmp_path: Path):
    folder = write_env(tmp_path, "own", OWN_MEMORY_TOML, OWN_MEMORY)
    env = NativeEnv(folder, 3, seed=1)
    env.reset()
    env.step(ONES)
    saved = env.get_state()
    rows = [env.step(ONES)[0].copy() for _ in range(8)]
    other = NativeEnv(folder, 3, seed=8)
    other.set_state(saved)
    assert all((other.step(ONES)[0] == row).all() for row in rows)
    env.set_state(saved)
    assert (env.step(ONES)[0] == rows[0]).all() and rows[0].min() > 20
    env.close()
    env.close()  # a second time does nothing
    for use in (env.reset, lambda: env.reset_some({0: None}), lambda: env.step(ONES)):
        with pytest.raises(pufferlib.APIUsageError):
            use()
    for broken, message in ((1, "environment own: nothing to share"), (2, "environment own: no memory")):
        with pytest.raises(InputError, match=message):
            NativeEnv(folder, broken=broken)
    (folder / "own.h").write_text((folder / "own.h").read_text().replace("c_get_state", "got").replace("c_set", "set"))
    (folder / "env.toml").write_text(OWN_MEMORY_TOML.replace("state = 1", ""))
    with pytest.raises(InputError, match="a copy of Env no longer saves all of it; define c_get_state and c_set_state"):
        NativeEnv(folder)


def test_packages_must_be_there(tmp_path: Path):
    folder = write_env(tmp_path, "own", 'packages = ["no_such_package"]\n' + OWN_MEMORY_TOML, OWN_MEMORY)
    with pytest.raises(InputError, match="built with the package no_such_package, which is not installed; pip install"):
        NativeEnv(folder)
    folder = write_env(tmp_path, "two", 'packages = ["numpy"]\n' + OWN_MEMORY_TOML, OWN_MEMORY)
    with pytest.raises(InputError, match=r"the package numpy in .* has no include/ or no libnumpy"):
        NativeEnv(folder)


def test_category_numbers(tmp_path: Path):
    toml = OWN_MEMORY_TOML.replace('dtype = "float32"\nshape = [1]\nlow = -inf\nhigh = inf', "discrete = 5")
    header = """
typedef struct { int at; } Env;
static inline void c_reset(Env *env, Io io) { io.observations[0] = env->at = 0; }
static inline void c_step(Env *env, Io io) { io.observations[0] = env->at = (env->at + io.actions[0]) % 5; }
"""
    folder = write_env(tmp_path, "ring", toml.replace("state = 1\n", ""), header)
    env = NativeEnv(folder, 2)
    assert env.reset()[0].shape == (2, 1) and env.observations.dtype == np.int32
    single = GymnasiumEnv(folder)
    assert single.observation_space.n == 5 and single.reset()[0] == 0 and single.step(1)[0] == 1
    with make_vec(str(folder), num_envs=2) as vec:
        assert [f.categories for f in vec.spec.obs_fields] == [5]  # a policy sees it one-hot
