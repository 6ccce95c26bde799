"""`puffer-il env check`: each way to break an environment is caught and named, and what is sound passes."""

import json
import re
from pathlib import Path

import pytest

from puffer_il.core.errors import InputError
from puffer_il.envkit.check import child as child_process
from puffer_il.envkit.check.program import BUILDS
from puffer_il.envkit.check.results import CHECKS
from puffer_il.envkit.check.run import check
from puffer_il.envkit.check.source import env_fields
from puffer_il.native.envfile import read_env
from tests.support.environments import write_env

TOML = """
max_episode_steps = 100
state = 2
[observation]
dtype = "float32"
shape = [2]
low = -100.0
high = 100.0
[action]
discrete = 2
[parameters]
gain = 1.0
"""
HEADER = """
typedef struct { double x, v; } Env;
static inline void observe(const Env *env, Io io) {
    io.observations[0] = (float)env->x;
    io.observations[1] = (float)env->v;
}
static inline void c_reset(Env *env, Io io) {
    env->x = rng_double(io.rng);
    env->v = 0;
    observe(env, io);
}
static inline void c_step(Env *env, Io io) {
    env->v = 0.9 * env->v + (io.actions[0] - 0.5) * io.params->gain + 0.01 * rng_double(io.rng);
    env->x = clip(env->x + env->v, -9, 9);
    io.rewards[0] = (float)-env->x;
    observe(env, io);
}
static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = env->x < 0;
}
static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->x;
    state[1] = env->v;
}
static inline void c_set_state(Env *env, Io io, const double *state) {
    env->x = state[0];
    env->v = state[1];
    observe(env, io);
}
"""
STDLIB = ("typedef", "#include <stdlib.h>\ntypedef")
FIELD = ("double x, v;", "double x, v; int64_t n;")
SEEN = "    io.observations[0] = (float)env->x;\n    io.observations[1] = (float)env->v;\n"
STEP = "    env->x = clip(env->x + env->v, -9, 9);\n"
EXPERT = "    actions[0] = env->x < 0;\n"
RENDER = "static void c_render(const Env *env, Io io, Canvas *canvas) {\n    canvas->pixels[0] = 3;\n"
PICTURE = ("[parameters]", "[render]\nwidth = 8\nheight = 8\nfps = 9\n[parameters]")
STATEFUL = ("    env->v = 0;\n", "    env->v = env->n = 0;\n")

# name → edits of HEADER, edits of TOML, the check that fails, what it must say
BROKEN: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]], str, str]] = {
    "write_out_of_bounds": ([(STEP, STEP + "    io.observations[ENV_OBS_SIZE] = 1;\n")], [], "memory",
                            r"out of bounds: write_out_of_bounds\.h:\d+ in c_step writes 4 bytes past the end of "
                            "observations"),
    "read_actions_out_of_bounds": ([(STEP, STEP + "    env->v += io.actions[ENV_ACTION_SIZE];\n")], [], "memory",
                                   r"out of bounds: \w+\.h:\d+ in c_step reads 4 bytes past the end of actions"),
    "read_params_out_of_bounds": ([(STEP, STEP + "    env->v += 1e-9 * (&io.params->gain)[1];\n")], [], "memory",
                                  r"out of bounds: \w+\.h:\d+ in c_step reads 8 bytes past the end of params"),
    "read_data_out_of_bounds": ([(STEP, STEP + "    env->v += io.data->table[(int)env->x + 9];\n")],
                                [("[parameters]", '[data]\ntable = "float64"\n[parameters]')], "memory",
                                r"out of bounds: \w+\.h:\d+ in c_step reads 8 bytes .*past the end of data"),
    "uninitialised_local": ([(STEP, "    double push;\n    if (env->x > 2)\n        push = 1;\n    env->v += push;\n"
                              + STEP)], [], "initialised", r"uninitialised read: observations depend on memory that "
                            r"nobody has written, at step 1: \w+\.h:\d+: .*'push'"),
    "uninitialised_env": ([FIELD, (STEP, "    if (env->n == 0)\n        env->n = 1;\n    env->v += 1e-3 * env->n;\n"
                                   + STEP)], [], "initialised",
                          r"uninitialised read: env->n of Env is used before c_reset has set it"),
    "unwritten_observation": ([("    io.observations[1] = (float)env->v;\n", ""),
                               ("    io.rewards", "    io.observations[1] = 0;\n    io.rewards")], [], "initialised",
                              r"c_reset does not write io\.observations\[1\]"),
    "float_as_uint8": ([(SEEN, "    float *seen = (float *)io.observations;\n    seen[0] = seen[1] = env->x;\n")],
                       [('"float32"', '"uint8"'), ("-100.0", "0"), ("100.0", "255")], "types",
                       r"wrong dtype: \w+\.h:\d+ takes io\.observations for float, but env\.toml declares uint8"),
    "memcpy_into_uint8": ([(SEEN, "    memcpy(io.observations, env, sizeof *env);\n")],
                          [('"float32"', '"uint8"'), ("-100.0", "0"), ("100.0", "255")], "memory",
                          r"out of bounds: \w+\.h:\d+ in \w+ writes 16 bytes over the end of observations"),
    "actions_as_float": ([("io.actions[0]", "((const float *)io.actions)[0]")], [], "types",
                         r"wrong dtype: \w+\.h:\d+ takes io\.actions for float, but env\.toml declares int32"),
    "float_pointer": ([(STEP, STEP + "    float *seen = io.observations;\n    seen[0] = env->x;\n")],
                      [('"float32"', '"int32"'), ("-100.0", "-100"), ("100.0", "100")], "types",
                      r"wrong dtype: \w+\.h:\d+: .*'Obs \*'"),
    "missing_reset": ([("    env->v = 0;\n", "")], [], "reset", r"missing reset: c_reset leaves env->v from the last "
                      "episode"),
    "shared_global": ([("typedef struct", "static double wind;\ntypedef struct"),
                       (STEP, "    wind += 0.001 * env->x;\n    env->v += wind;\n" + STEP)], [], "sharing",
                      r"shared global state: the variable wind \(shared_global\.h:3\) is one for all"),
    "shared_static": ([(STEP, "    static int steps;\n    env->v += 1e-3 * (steps++ % 7);\n" + STEP)], [], "sharing",
                      r"shared global state: the variable steps \(shared_static\.h:\d+\)"),
    "nan_after_1000_steps": ([FIELD, STATEFUL, (STEP, STEP + "    if (++env->n > 1000)\n        env->x = NAN;\n")],
                             [("= 100\n", "= 0\n")], "observations", r"observation\[0\] becomes nan, at step 1,001"),
    "infinite_reward": ([("(float)-env->x", "(float)(1 / (env->x - 9))")], [], "rewards", r"a reward is -?inf"),
    "infinite_loop": ([(STEP, "    while (env->v > 2)\n        env->x += 0;\n" + STEP)], [], "runs",
                      r"infinite loop: c_step does not return, at step \d+, near infinite_loop\.h:1[4-7]"),
    "infinite_loop_in_reset": ([("env->v = 0;\n", "env->v = 0;\n    while (env->x < 0.7)\n        env->v = 1;\n")],
                               [], "runs", r"infinite loop: c_reset does not return, .*near \w+_in_reset\.h:1[0-3]"),
    "null_pointer": ([(STEP, "    double *wind = env->v > 2 ? 0 : &env->v;\n    *wind += 1;\n" + STEP)], [], "runs",
                     r"crash: null_pointer\.h:\d+ in c_step, at step \d+: a null pointer \(SIGSEGV\)"),
    "division_by_zero": ([(STEP, "    env->v += 3 / (int64_t)(env->x + 0.5);\n" + STEP)], [], "runs",
                         r"crash: division_by_zero\.h:\d+ in c_step, .*integer division by zero \(SIGFPE\)"),
    "endless_recursion": ([("static inline void c_step", "static int deep(int n) {\n    volatile int big[99];\n"
                            "    big[n % 9] = n;\n    return n < 0 ? 0 : deep(n + 1) + big[1];\n}\n"
                            "static inline void c_step"), (STEP, "    env->v += deep(1);\n" + STEP)], [], "runs",
                          r"crash: .*the stack is full"),
    "exits": ([STDLIB, (STEP, "    if (env->x > 3)\n        exit(0);\n" + STEP)], [], "runs",
              r"crash: c_step ends the program, at step \d+"),
    "calls_time": ([("typedef", "#include <time.h>\ntypedef"), (STEP, "    env->v += time(0) % 7;\n" + STEP)], [],
                   "determinism", r"not deterministic: calls_time\.h:\d+ calls time\(\)"),
    "calls_rand": ([STDLIB, (STEP, "    env->v += rand() % 2;\n" + STEP)], [], "determinism",
                   r"not deterministic: calls_rand\.h:\d+ calls rand\(\)"),
    "address_as_number": ([(STEP, "    env->v += ((uintptr_t)env >> 4) % 5;\n" + STEP)], [], "determinism",
                          r"not deterministic: .* give.? different observations"),
    "out_of_bounds_observation": ([], [("= 100.0\n", "= 8.5\n")], "observations",
                                  r"out of space: observation\[0\] is \S+, above high = 8\.5, at step \d+"),
    "constant_observation": ([(SEEN, "    io.observations[0] = io.observations[1] = 1;\n")], [], "observations",
                             "constant: no element of the observation ever changes"),
    "state_forgets": ([("state[1] = env->v", "state[1] = 0"), ("    env->v = state[1];\n", "")], [], "state",
                      "forgets env->v: after c_get_state and c_set_state the episode goes on differently"),
    "state_out_of_bounds": ([("    state[1] = env->v;\n", "    state[1] = state[2] = env->v;\n")], [], "memory",
                            r"out of bounds: \w+\.h:\d+ in c_get_state writes 8 bytes past the end of state"),
    "state_unseen": ([("    env->v = state[1];\n    observe(env, io);\n", "    env->v = state[1];\n")], [], "state",
                     r"c_set_state does not write io\.observations\[0\], \[1\]"),
    "expert_changes_state": ([(EXPERT, EXPERT + "    ((Env *)env)->v = 0;\n")], [], "expert",
                             "c_expert changes env->v, but it may only look"),
    "expert_out_of_space": ([(EXPERT, "    actions[0] = env->x < 0 ? 2 : 0;\n")], [], "expert",
                            r"out of space: c_expert's action\[0\] is 2, but must be from 0 to 1"),
    "render_changes_state": ([("static inline void c_expert", RENDER + "    ((Env *)env)->v += 1;\n}\n"
                               "static inline void c_expert")], [PICTURE], "picture",
                             "c_render changes env->v, but it may only look"),
    "render_out_of_bounds": ([("static inline void c_expert", RENDER + "    canvas->pixels[3 * 8 * 8] = 1;\n}\n"
                               "static inline void c_expert")], [PICTURE], "memory",
                             r"out of bounds: \w+\.h:\d+ in c_render writes 1 bytes past the end of the picture"),
    "does_not_compile": ([("double x, v;", "double x;")], [], "compiles", r"error: does_not_compile\.h:\d+: .*'v'"),
}
LOAD = "import numpy as np\ndef load(**given):\n    return {'table': np.zeros(17)}\n"


def edited(text: str, edits: list[tuple[str, str]]) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def run(path: Path | str, capsys: pytest.CaptureFixture, seconds: float = 0.5, **kwargs) -> tuple[int, dict]:
    code = check(str(path), kwargs, seconds, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] == (code == 0)
    checks = {found["name"]: found for found in told["checks"]}
    assert list(checks) == [name for name in CHECKS if name in checks]
    return code, checks | {"not_run": told["not_run"]}


@pytest.fixture
def make(tmp_path: Path):
    def write(name: str, header: list[tuple[str, str]] = (), toml: list[tuple[str, str]] = ()) -> Path:  # type: ignore[assignment]
        folder = write_env(tmp_path, name, edited(TOML, toml), edited(HEADER, header))
        if any("[data]" in new for _, new in toml):
            (folder / f"{name}.py").write_text(LOAD)
        return folder

    return write


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str, make, capsys: pytest.CaptureFixture):
    header, toml, expected, says = BROKEN[name]
    code, checks = run(make(name, header, toml), capsys)
    assert code == 1
    assert checks[expected]["status"] == "failed", checks
    assert any(re.search(says, finding["text"]) for finding in checks[expected]["findings"]), checks[expected]
    for found in checks.values():
        if isinstance(found, dict):
            assert all(finding["remedy"] and "\n" not in finding["text"] for finding in found["findings"])


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_what_comes_with_it_is_sound(name: str, capsys: pytest.CaptureFixture):
    code, checks = run(name, capsys, 2.0)
    assert code == 0 and checks.pop("not_run") == []
    assert {found["status"] for found in checks.values()} == {"ok"}, checks
    assert list(checks) == list(CHECKS)


def test_a_sound_environment_of_ones_own_passes(make, capsys: pytest.CaptureFixture):
    code, checks = run(make("sound"), capsys, gain=0.5)
    assert code == 0, checks
    assert "picture" not in checks


MODULE = """
import gymnasium, numpy as np
class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-5, 5, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, bad=""):
        self.bad = bad
    def see(self):
        return np.array([self.x, self.n / 100], np.float32)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.n = self.np_random.random(), 0
        return self.see(), {}
    def step(self, action):
        self.x = min(max(self.x + action - 0.5 + 0.1 * self.np_random.random(), -4), 4)
        self.n += 1
        if self.bad == "random":
            self.x = np.random.random()
        if self.bad == "nan" and self.n > 50:
            self.x = np.nan
        if self.bad == "space" and self.n > 50:
            self.x = 6
        if self.bad == "constant":
            self.x = self.n = 0
        if self.bad == "dies" and self.n > 50:
            import os
            os.abort()
        if self.bad == "raises" and self.n > 50:
            raise KeyError("nothing there")
        return self.see(), 1.0, False, self.n >= 100, {}
def make(**kwargs):
    return Env(**kwargs)
"""


@pytest.mark.parametrize(("bad", "expected", "says"), [
    ("", "", ""), ("random", "determinism", "not deterministic: the same seed gives different rows the second time"),
    ("nan", "observations", r"observation\[0\] becomes nan, at step 51"),
    ("space", "observations", r"out of space: observation\[0\] is above its space: 6\.0, at step 51"),
    ("constant", "observations", "constant: the observation never changes"),
    ("dies", "observations", r"stopped: the process dies \(SIGABRT\)"),
    ("raises", "observations", r"stopped: .*KeyError: 'nothing there'"),
])
def test_functions_in_modules_are_checked_from_outside(bad: str, expected: str, says: str, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    code, checks = run("my_module:make", capsys, bad=bad)
    if not bad:
        assert code == 0 and list(checks) == ["determinism", "observations", "workers", "gymnasium", "speed", "not_run"]
        return
    assert code == 1 and checks[expected]["status"] == "failed"
    assert re.search(says, checks[expected]["findings"][0]["text"]), checks[expected]


SLOW = """
import time
from my_module import Env
def make():
    time.sleep(0.2)
    return Env()
"""


def test_a_slow_start_is_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child_process, "PATIENCE_S", 0.3)
    child = child_process.Child("slow:make", {}, 0.05, tmp_path)
    try:
        assert child.opened()["seconds"] > 0.2
        answers = child.checks()
        assert next(answers) == "observations"
        assert next(answers).findings == []
    finally:
        child.close()


def test_wrong_input_is_not_a_finding(make):
    for path, kwargs, says in (("cartpol", {}, "did you mean 'cartpole'"), ("cartpole", {"gravty": 1}, "gravity"),
                               (str(make("no_shape", [], [("shape = [2]\n", "")])), {}, "observation.shape: missing")):
        with pytest.raises(InputError, match=says):
            check(path, kwargs, 1.0)


def test_what_load_raises_is_told(make, capsys: pytest.CaptureFixture):
    folder = make("loads", [], [("[parameters]", '[data]\ntable = "float64"\n[parameters]')])
    (folder / "loads.py").write_text("def load(**given):\n    return {'table': 1 / 0}\n")
    code, checks = run(folder, capsys)
    assert code == 1
    assert checks["runs"]["findings"][0]["text"] == "cannot be opened: ZeroDivisionError: division by zero (loads.py:2)"


def test_people_see_marks_remedies_and_a_verdict(make, capsys: pytest.CaptureFixture):
    folder = make("lines", *BROKEN["missing_reset"][:2])
    assert check(str(folder), {}, 1.0) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"{folder}: 2 float32 observations, 2 choices, 1 agent\n\n✓ compiles")
    assert "\n✗ reset         missing reset: c_reset leaves env->v" in told
    assert "\n                → set every field of Env in c_reset" in told
    assert re.search(r"\n1 of \d+ checks failed: reset \(\d+\.\d s\)\n$", told)


def test_much_is_seen_without_sanitizers(make, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BUILDS, "sanitized", (("-fsanitize=nothing",), *BUILDS["sanitized"][1:]))
    for name, expected, says in (("write_out_of_bounds", "memory", "out of bounds: c_step writes past the end of obs"),
                                 ("read_data_out_of_bounds", "initialised", "uninitialised read: observations depend"),
                                 ("null_pointer", "runs", r"crash: SIGSEGV in c_step, at step \d+"),
                                 ("infinite_loop", "runs", r"infinite loop: c_step does not return, at step \d+$")):
        code, checks = run(make(name, *BROKEN[name][:2]), capsys)
        assert code == 1 and any(re.search(says, finding["text"]) for finding in checks[expected]["findings"]), checks
        assert any("sanitizers are not there" in finding["text"] for finding in checks["memory"]["findings"])


def test_fields_of_env_are_made_out(make):
    folder = make("fields", [("double x, v;", "double x, *v; /* int no; */ struct { int a, b; } pair[2];\n"
                              "    uint8_t grid[3][4], flag : 1; // one; two\n    union { int c; float d; } both;")])
    assert env_fields(read_env(folder)) == ["x", "v", "pair", "both"]
