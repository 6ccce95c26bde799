"""`puffer-il env check` drives environments into rare states, by the expert and by long walks, and names the function
that is wrong there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puffer_il.envkit.check.child import write_input
from puffer_il.envkit.check.compare import check_comparisons
from puffer_il.envkit.check.findings import check_run
from puffer_il.envkit.check.program import build_program, run_program
from puffer_il.envkit.check.results import Checks
from puffer_il.native.envfile import read_env
from tests.support.environments import write_env

TOML = """
max_episode_steps = 100
state = 4
[observation]
dtype = "float32"
shape = [2]
low = -100.0
high = 100.0
[action]
discrete = 2
"""
# Whoever stays near zero for 60 steps, which only the expert does, is pushed for the next 9.
HEADER = """
typedef struct { double x, v, pushed; int64_t calm; } Env;
static inline void observe(const Env *env, Io io) {
    io.observations[0] = (float)env->x;
    io.observations[1] = (float)env->v;
}
static inline void c_reset(Env *env, Io io) {
    env->x = rng_double(io.rng);
    env->v = 0.1 * rng_double(io.rng);
    env->pushed = 0;
    env->calm = 0;
    observe(env, io);
}
static inline void c_step(Env *env, Io io) {
    env->v = 0.9 * env->v + io.actions[0] - 0.5 + 0.01 * env->pushed;
    env->x = clip(env->x + env->v, -9, 9);
    env->calm = fabs(env->x) < 3 ? env->calm + 1 : 0;
    env->pushed = env->calm == 60 ? 9 : env->pushed > 0 ? env->pushed - 1 : 0;
    io.rewards[0] = (float)-env->x;
    observe(env, io);
}
static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = env->x + env->v < 0;
}
static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->x;
    state[1] = env->v;
    state[2] = env->pushed;
    state[3] = (double)env->calm;
}
static inline void c_set_state(Env *env, Io io, const double *state) {
    env->x = state[0];
    env->v = state[1];
    env->pushed = state[2];
    env->calm = (int64_t)state[3];
    observe(env, io);
}
"""
STEP_SEES = "    io.rewards[0] = (float)-env->x;\n    observe(env, io);\n"
SET_PUSHED, SET_SEES = "    env->pushed = state[2];\n", "state[3];\n    observe(env, io);\n"
HOOKS = HEADER[HEADER.index("static inline void c_get_state"):]
NO_STATE = [("state = 4\n", "")]
OWN_MEMORY = ("static inline void c_get_state", "static const char *c_open(Env *env, Io io) {\n    return NULL;\n}\n"
              "static void c_close(Env *env) {\n}\nstatic inline void c_get_state")  # so that copying Env will not do
Edits = list[tuple[str, str]]

# name → edits of HEADER, edits of TOML, the check that fails, what it must say: the function first
FAULTS: dict[str, tuple[Edits, Edits, str, str]] = {
    "step_never_writes": ([(STEP_SEES, "    io.rewards[0] = 1;\n")], [], "observations",
                          r"^c_step never writes io\.observations"),
    "step_never_writes_and_no_state": ([(STEP_SEES, "    io.rewards[0] = 1;\n"), (HOOKS, "")], NO_STATE,
                                       "observations", r"^c_step never writes io\.observations"),
    "step_writes_too_early": ([(STEP_SEES, ""), ("    env->v = 0.9", "    observe(env, io);\n    env->v = 0.9")], [],
                              "observations", r"^c_step leaves \S+ in io\.observations\[0\], at step \d+, but "
                              "c_set_state writes"),
    "step_forgets_an_element": ([(STEP_SEES, "    io.observations[0] = (float)env->x;\n")], [], "observations",
                                r"^c_step leaves \S+ in io\.observations\[1\], at step \d+"),
    "reset_writes_too_early": ([("    env->pushed = 0;\n    env->calm = 0;\n    observe(env, io);\n", ""),
                                ("    env->x = rng", "    env->x = env->v = env->pushed = env->calm = 0;\n"
                                 "    observe(env, io);\n    env->x = rng")], [], "observations",
                               r"^c_reset leaves 0 in io\.observations\[0\], after c_reset"),
    "reset_leaves_what_is_rare": ([("    env->pushed = 0;\n", "")], [], "reset",
                                  r"^missing reset: c_reset leaves env->pushed from the last episode"),
    "set_forgets_what_is_rare": ([(SET_PUSHED, "")], [], "state", r"^c_set_state forgets env->pushed: after"),
    "set_does_not_clear_what_is_rare": ([(SET_PUSHED, "    if (state[2] > 0)\n    " + SET_PUSHED)], [], "state",
                                        r"^c_set_state forgets env->pushed: after"),
    "get_forgets_what_is_rare": ([("= env->pushed;\n", "= 0;\n")], [], "state",
                                 r"^c_get_state forgets env->pushed: after"),
    "get_rounds": ([("state[0] = env->x;", "state[0] = (float)env->x;")], [], "state",
                   r"^c_get_state forgets env->x: "),
    "set_mixes_up": ([(SET_SEES, SET_SEES.replace("observe(env, io);", "io.observations[0] = (float)env->v;\n"
                                                  "    io.observations[1] = (float)env->x;"))], [], "state",
                     r"^c_set_state writes \S+ into io\.observations\[0\] of a state in which c_step has written"),
    "set_writes_nothing": ([(SET_SEES, "state[3];\n")], [], "state",
                           r"^c_set_state does not write io\.observations\[0\], \[1\]"),
    "get_forgets_what_is_only_seen": ([("pushed; int64_t calm;", "pushed; int64_t calm; double seen;"),
                                       ("    env->calm = 0;\n", "    env->calm = 0;\n    env->seen = 0;\n"),
                                       ("= (float)env->v;", "= (float)env->seen;"),
                                       ("    io.rewards", "    env->seen = io.actions[0];\n    io.rewards")], [],
                                      "state",
                                      r"^c_get_state forgets env->seen: c_set_state writes other observations"),
}
FAULTS |= {
    "step_never_writes_with_memory": ([(STEP_SEES, "    io.rewards[0] = 1;\n"), OWN_MEMORY],
                                      *FAULTS["step_never_writes"][1:]),
    "set_forgets_what_is_rare_with_memory": ([(SET_PUSHED, ""), OWN_MEMORY], [], "state",
                                             r"^c_set_state does not set what c_get_state reads: state\[2\] is "),
    "get_forgets_what_is_rare_with_memory": ([("= env->pushed;\n", "= 0;\n"), OWN_MEMORY], [], "state",
                                             r"^c_get_state forgets something: after"),
    "get_and_set_are_in_two_orders": ([("state[0] = env->x;\n    state[1] = env->v;", "state[1] = env->x;\n"
                                        "    state[0] = env->v;")], [], "state",
                                      r"^c_set_state forgets env->x, env->v: after"),
}
SOUND: dict[str, tuple[Edits, Edits]] = {
    "as_it_is": ([], []),
    "with_memory": ([OWN_MEMORY], []),
    "without_states": ([(HOOKS, "")], NO_STATE),
    "only_what_has_changed": ([("    io.observations[0]", "    if (io.observations[0] != (float)env->x)\n"
                                "        io.observations[0]")], []),
    "a_step_is_an_episode": ([(STEP_SEES, "    io.terminations[0] = true;\n"), (HOOKS, "")], NO_STATE),
    "a_target_that_stays": ([(STEP_SEES, "    io.observations[1] = (float)env->x;\n"), (HOOKS, ""),
                             ("= (float)env->x;", "= (float)env->calm;"), ("env->calm = 0;", "env->calm = 9 * env->x;"),
                             ("    env->calm = fabs", "    double calm = fabs"), ("env->calm == 60", "calm == 60")],
                            NO_STATE),
}


def run(root: Path, name: str, header: Edits, toml: Edits) -> dict[str, list[str]]:
    """What one build of the program finds, by check. (`check` makes three, and asks Python as well.)"""
    texts = []
    for text, edits in ((TOML, toml), (HEADER, header)):
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new, 1)
        texts.append(text)
    folder, checks = write_env(root, name, *texts), Checks()
    env = read_env(folder)
    write_input(folder, {}, root / "input")
    program, told = build_program(env, "zero", root)
    assert program is not None, told
    done = run_program(program, "zero", root / "input", root, 0.3, 3.0)
    check_run(env, {"zero": done}, checks)
    check_comparisons({"zero": done}, [], False, checks)
    return {name: [finding.text for finding in checks[name].findings] for name in checks.failed()}


@pytest.mark.parametrize("name", FAULTS)
def test_the_function_that_is_wrong_is_named_and_no_other(name: str, tmp_path: Path) -> None:
    header, toml, where, says = FAULTS[name]
    failed = run(tmp_path, name, header, toml)
    assert list(failed) == [where], failed
    assert len(failed[where]) == 1 and re.search(says, failed[where][0]), failed


@pytest.mark.parametrize("name", SOUND)
def test_nobody_is_blamed_who_is_right(name: str, tmp_path: Path) -> None:
    assert run(tmp_path, name, *SOUND[name]) == {}
