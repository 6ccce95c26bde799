"""`make sanitize` finds what it is there to find: races between environments, and states that are trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.sanitize import crafted, file_tested, raced
from tests.support.environments import FOLDERS, write_env

TOML = """
state = 1
[observation]
dtype = "float32"
shape = [1]
low = 0
high = 9
[action]
discrete = 2
"""
ENV = """
typedef struct {{ int32_t at; }} Env;
static int32_t steps;
static const float PLACES[10] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}};

static inline void c_observe(const Env *env, Io io) {{ io.observations[0] = PLACES[env->at]; }}
static inline void c_reset(Env *env, Io io) {{ env->at = 0; c_observe(env, io); }}
static inline void c_step(Env *env, Io io) {{
    {step}
    env->at = (env->at + 1) % 10;
    c_observe(env, io);
}}
static inline void c_get_state(const Env *env, Io io, double *state) {{ state[0] = env->at; }}
static inline void c_set_state(Env *env, Io io, const double *state) {{
    env->at = (int32_t)clip({state}, 0, {most});
    c_observe(env, io);
}}
"""


def written(folder: Path, step: str = "(void)steps;", state: str = "state[0]", most: str = "9") -> Path:
    return write_env(folder, "toy", TOML, ENV.format(step=step, state=state, most=most))


def race(folder: Path, scratch: Path) -> str:
    told = raced(folder, scratch)
    if "unexpected memory mapping" in told or "-fsanitize=thread" in told:
        pytest.skip("ThreadSanitizer cannot run here")
    return told


def test_environments_share_nothing_but_what_they_only_read(tmp_path):
    assert race(FOLDERS["taxi"], tmp_path) == ""


def test_a_count_that_environments_share_is_a_race(tmp_path):
    folder = written(tmp_path, step="steps++;")
    assert any("data race" in race(folder, tmp_path) for _ in range(8))  # threads may miss each other in a short run


@pytest.mark.parametrize("spoiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_rollout_buffer_stays_within_its_memory(spoiled, tmp_path):
    """Its own tests, under AddressSanitizer and UBSan; and they notice where it writes a byte too much."""
    def spoil(text: str) -> str:
        changed = text.replace("0, <size_t>n * sizeof(float)", "0, <size_t>(n + 1) * sizeof(float)")
        assert changed != text
        return changed

    done = file_tested("puffer_il/rollout/_buffer.pyx", "tests/rollout/test_buffer.py", tmp_path,
                       spoil if spoiled else str)
    if "unexpected memory mapping" in done.stderr or "incompatible" in done.stderr:
        pytest.skip("AddressSanitizer cannot run here")
    assert ("heap-buffer-overflow" in done.stderr) == spoiled == (done.returncode != 0), done.stdout[-2000:]


@pytest.mark.parametrize(("how", "found"), [
    ({}, ""), ({"most": "99"}, "out of bounds"), ({"state": "state[1]"}, "overflow")])
def test_states_that_are_trusted_are_found(tmp_path, how, found):
    inputs, reached, wrong = crafted(written(tmp_path, **how), {}, 0.5, tmp_path)
    assert found in wrong if found else not wrong and inputs > 10 and reached > 50
