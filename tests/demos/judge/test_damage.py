"""Every kind of damage is refused or warned about in one line that says where it is and what to do; a good recording is
not."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

import puffer_il
from puffer_il.core.errors import InputError
from puffer_il.demos import as_rows, judge, read_demos, relaid
from puffer_il.demos.check import misfits
from puffer_il.demos.judge import subject
from puffer_il.vector.world import World
from tests.demos.judge import damage
from tests.demos.judge.damage import ends, good

LONGEST = 160  # letters
SETS = {"cartpole": good("cartpole"), "pendulum": good("pendulum"), "detour": good("detour", steps=1000)}


@pytest.fixture(scope="module")
def worlds():
    made = {name: World(name) for name in SETS}
    yield made
    for world in made.values():
        world.__exit__()


def put(name, index, value):
    """The damage that one value of one array is another."""
    def spoil(d):
        d[name] = d[name].copy()
        d[name][index] = value
    return spoil


def changed(**arrays):
    """The damage that arrays are others, made of them all; None takes one away."""
    def spoil(d):
        for name, make in arrays.items():
            if make is None:
                del d[name]
            else:
                d[name] = make(d)
    return spoil


def lines(d, world=None):
    """What is said of the arrays: the refusal, or all warnings."""
    try:
        demos = read_demos(dict(d))
        if world is None:
            return [finding.line for finding in judge(demos)]
        demos = relaid(as_rows(demos, world.spec), world.spec)
        wrong = list(misfits(demos, world.spec))
        return wrong or [finding.line for finding in judge(demos, world.spec, world)]
    except InputError as error:
        return [str(error)]


N = len(SETS["cartpole"]["obs"])
LIMIT = changed(terminations=lambda d: d["truncations"], truncations=lambda d: np.zeros(N, bool))
REFUSED = {
    "NaN in an observation": ("cartpole", put("obs", (300, 2), np.nan), "obs is NaN .* row 300 .episode 2.; remove"),
    "NaN in a successor": ("cartpole", put("next_obs", (959, 1), np.nan), "next_obs is NaN .* row 959 .episode 7."),
    "an infinite action": ("pendulum", put("actions", (130, 0), np.inf), "actions is NaN or infinite in row 130 .ep"),
    "NaN in a reward": ("cartpole", put("rewards", 5, np.nan), "rewards is NaN or infinite in row 5 .episode 0.; rem"),
    "NaN in a state": ("pendulum", put("states", (7, 0), np.nan), "states is NaN .* row 7 .episode 0."),
    "a weight below 0": ("cartpole", changed(weights=lambda d: -np.ones(N)), "weights .* none negative"),
    "no weight above 0": ("cartpole", changed(weights=lambda d: np.zeros(N)), "weights .* not all zero"),
    "too few rewards": ("cartpole", changed(rewards=lambda d: d["rewards"][:-1]),
        "rewards has 959 rows but obs has 960"),
    "too few actions": ("cartpole", changed(actions=lambda d: d["actions"][:-8]),
        "actions has 952 rows but obs has 960"),
    "too many ends": ("cartpole", changed(truncations=lambda d: np.zeros(N + 1, bool)), "truncations has 961 rows but"),
    "narrower successors": ("cartpole", changed(next_obs=lambda d: d["next_obs"][:, :3]),
        "next_obs has shape .* agree"),
    "starts not from 0": ("cartpole", put("episode_starts", 0, 3), "episode_starts must rise from 0 .* give the row"),
    "starts that fall": ("cartpole", put("episode_starts", 4, 30), "episode_starts must rise from 0"),
    "a start beyond the end": ("cartpole", put("episode_starts", 7, 960), "stay below 960 transitions"),
    "both ends in a row": ("cartpole", put("terminations", 119, True),
        "row 119 is both a termination and a trunc.*keep"),
    "an end inside an episode": ("cartpole", put("terminations", 60, True), "row 60 ends an episode .* split"),
    "no transitions": ("cartpole", changed(**{k: lambda d: np.zeros((0, 4)) for k in ("obs", "next_obs")}),
        "no transi|0"),
    "no ends at all": ("cartpole", changed(terminations=None), "has no array 'terminations'"),
    "no observations": ("cartpole", changed(obs=None), "matches no known format"),
    "words for actions": ("cartpole", changed(actions=lambda d: np.full(N, "left")),
        "actions has dtype .* plain numbers"),
    "numbers beyond int32": ("cartpole", changed(actions=lambda d: np.full(N, 2**40)), "too large for int32; renumber"),
}
MISFITS = {
    "observations of another width": ("cartpole", changed(obs=lambda d: d["obs"][:, :3],
                                                          next_obs=lambda d: d["next_obs"][:, :3]), "shape .3,. but"),
    "a choice that there is not": ("cartpole", put("actions", 77, 2), "action 2 in row 77 .* whole numbers 0..1"),
    "half a choice": ("cartpole", changed(actions=lambda d: np.full(N, 0.5)), "action 0.5 in row 0 .* whole numbers"),
    "probabilities": ("cartpole", changed(actions=lambda d: np.full((N, 2), 0.5)),
        "row 0 is .*not a single 1 and zeros; give the number"),
    "another number of actions": ("pendulum", changed(actions=lambda d: np.ones((len(d["obs"]), 3))), "3 columns but"),
    "degrees for radians": ("pendulum", changed(actions=lambda d: d["actions"] * 57.3),
        "row 0: .*57.3 times: degrees.*--rescale"),
}
WARNED = {
    "frames a row late": ("cartpole", damage.late, "episode 0, row 0: .*observations come one row late.*--shift 1"),
    "frames a row late, carried": ("pendulum", damage.late_carried, "action of the row before.*--shift 1"),
    "actions a row late": ("cartpole", damage.late_actions, "episode 0, row .*actions come one row late.*--shift -1"),
    "late actions of a continuous kind": ("pendulum", damage.late_actions, "actions come one row late.*--shift -1"),
    "rewards a row late": ("pendulum", damage.late_rewards, "episode 0, row 1: .*rewards come one row late.*--rewards"),
    "states a row late": ("pendulum", damage.late_states, "episode 0, row 1: the stored state shows another obs"),
    "actions of the other sign": ("pendulum", changed(actions=lambda d: -d["actions"]), "opposite sign.*--rescale-act"),
    "choices in another order": ("cartpole", changed(actions=lambda d: 1 - d["actions"]),
        "opposite order.*number them"),
    "rewards of another scale": ("pendulum", changed(rewards=lambda d: d["rewards"] / 2),
        "episode 0, row 0: .*rewards it with .*--rewards"),
    "one reward altered": ("cartpole", put("rewards", 345, 50), r"episode 2, row 345: .* \(1 of 960 rows\).*--rewards"),
    "one observation altered": ("cartpole", put("next_obs", (959, 3), 0.9), "episode 7, row 959: .*1 of 960.*--drop"),
    "other dynamics": ("pendulum", changed(next_obs=lambda d: d["obs"] + 1.3 * (d["next_obs"] - d["obs"])),
                       "episode 0, row .* not to .*other parameters.*--env.kwargs"),

    "a termination for a time limit": ("cartpole", LIMIT,
                                       "episode 0, row 119: a termination was recorded, but.*--time-limit"),
    "actions normalised": ("pendulum", changed(actions=lambda d: d["actions"] / 2), "pile up at -1 and 1.*--rescale"),
    "actions far too small": ("pendulum", changed(actions=lambda d: d["actions"] / 200), "less than 1%.*--rescale"),
    "a choice never taken": ("cartpole", changed(actions=lambda d: d["actions"] * 0), "never change.*teaches nothing"),
    "episodes in pieces": ("cartpole", damage.pieces, "episode 1, row 60: begins with .*the environment with"),
    "starts in degrees": ("cartpole", changed(obs=lambda d: d["obs"] * 57.3, next_obs=lambda d: d["next_obs"] * 57.3),
                          r"degrees, not radians \(57.1 times\)\? give its units"),
    "starts from one corner": ("cartpole", damage.one_start, "no episode begins near some starts.*add episodes"),
    "twin columns of actions": ("detour", changed(actions=lambda d: d["actions"][:, [0, 0]]), "0, 1 are the same"),
}
ALONE = {  # without an environment
    "frames late, no environment": ("cartpole", damage.late, "follow the action of the row before.*--shift 1"),
    "a clock": ("cartpole", damage.clock, "column 4 is a clock: .*leave it out"),
    "a clock that jitters": ("cartpole", damage.jittered_clock, "column 4 is a clock: .*same pace"),
    "a gap in time": ("cartpole", damage.clock_gap, "episode 2, row 299: .*rows are missing.*split"),
    "time that goes back": ("cartpole", damage.clock_back, "episode 2, row 299: .*goes back.*sort"),
    "time that stands still": ("cartpole", damage.clock_still, "episode 2, row 299: .*stands still.*recorded twice"),
    "the last action observed": ("cartpole", damage.last_action,
        "column 4 repeats the action of the row before.*leave"),
    "the action observed": ("pendulum", damage.own_action, "column 3 repeats the action itself.*leave it out"),
    "a constant sensor": ("cartpole", damage.constant_column, r"1 of 5 obs columns never change \(4\); leave"),
    "constant actions": ("pendulum", changed(actions=lambda d: d["actions"] * 0), "1 of 1 action columns never change"),
    "a sensor that hangs": ("cartpole", damage.hung_sensor, "episode 2, row 300: .*column 0 hangs for 39 rows.*--drop"),
    "a spike": ("cartpole", damage.spike, "episode 2, row 300: .*column 0 jumps to .*neighbours.*--drop"),
    "a code for missing": ("cartpole", damage.sentinel, r"episode 2, row 300: .*-999 .*\(rows: 3\).*fill"),
    "rows of zeros": ("cartpole", damage.zero_rows, r"episode 2, row 300: .*are 0 \(rows: 3\).*--drop"),
    "padding": ("cartpole", damage.padding, "episode 0, row 80: 8 episodes end in rows of zeros.*--cut-idle"),
    "idle stretches": ("detour", damage.idle_start, "episode 0, row 0: nothing moves in .*--cut-idle"),
    "rows in disorder": ("pendulum", damage.shuffled_rows, "order of time is lost; record"),
    "actions of other rows": ("pendulum", damage.shuffled_actions, "tell . ?.?% of the actions|tell .*clock"),
    "two episodes as one": ("detour", damage.glued, "episode 2, row .*: obs jumps .*split"),
    "rows missing": ("detour", damage.missing_rows, "episode 1, row .*: obs jumps .*rows are missing"),
    "finals of the next episode": ("detour", damage.reset_leak, "episode 0, row .*first observation of the next"),
    "finals that are no finals": ("pendulum", damage.final_again, "episode 0, row 119: .*once more; .*record"),
    "copies": ("cartpole", damage.copied, r"2 episodes are copies of one another \(0, 2\).*--drop-copies"),
    "near copies": ("pendulum", damage.nearly_copied, "episode 2: differs from episode 0 by less than.*--drop"),
    "windows that overlap": ("pendulum", damage.windows,
        "episode 1, row 80: these rows are those of episode 0 from row 40"),
    "an episode that failed": ("cartpole", damage.failed, "episode 5: unlike the rest: its length is 12.0.*--drop"),
    "an episode of noise": ("detour", damage.jerky, "episode 5: unlike the rest: its change of action.*--drop"),
    "two ways of doing it": ("detour", damage.two_ways, "episode .*, row .*nearly the same state.*--policy.head mix"),
    "an angle that wraps": ("cartpole", damage.wrapped_angle, "column.* jump by a whole turn in radians; the sine"),
    "a quaternion that flips": ("cartpole", damage.flipped_quaternion, "quaternion that changes its sign.*keep"),
    "successors of other rows": ("cartpole", put("next_obs", 250, 9), "episode 2, row 250: next_obs differs .*missing"),
    "open ends": ("cartpole", changed(truncations=lambda d: d["truncations"] & False), "8 of 8 episodes neither term"),
    "a limit taken for an end": ("cartpole", LIMIT,
                                "episode 0: all 8 terminated episodes are 120 steps.*--time-limit 120"),
    "episodes of one step": ("cartpole", changed(episode_starts=lambda d: np.array([0, 1, *d["episode_starts"][1:]])),
                             "1 episodes are one step long .0.; .*--min-length 2"),
    "no actions": ("cartpole", changed(actions=None), "no actions are stored; only algorithms"),
    "no rewards": ("cartpole", changed(rewards=None), "no rewards are stored; .*--rewards env"),
    "rewards of nothing": ("cartpole", changed(rewards=lambda d: d["rewards"] * 0),
        "all 960 rewards are 0; .*--rewards"),
    "weights for one episode": ("cartpole", changed(weights=lambda d: np.where(np.arange(N) < 120, 1, 1e-6)),
                                "episode 0: the weights leave 1.0 of 8 .*--demos.weighting none"),
    "a total of too few steps": ("cartpole", changed(episode_lengths=lambda d: np.full(8, 100)),
                                 "episode 0, row 0: episode_lengths says 100 steps, but there are 120 rows"),
    "a total of another return": ("cartpole", changed(episode_returns=lambda d: np.full(8, 99.0)),
                                  "episode 0, row 0: episode_returns says 99, but .*120 .*the rows count"),
    "a total of other ends": ("cartpole", changed(
        episode_truncations=lambda d: np.zeros(8, bool), episode_lengths=lambda d: np.full(8, 120)),
        "episode 0, row 119: episode_truncations says .*the rows count"),
}


def short(line):
    """Whether a line, without the name of the file, is read at one glance."""
    return "\n" not in line and len(line.removeprefix("demos arrays: ")) <= LONGEST


def spoilt(env, spoil):
    d = {name: array.copy() for name, array in SETS[env].items()}
    spoil(d)
    return d


@pytest.mark.parametrize(("env", "spoil", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(env, spoil, said):
    (line,) = lines(spoilt(env, spoil))
    assert re.search(said, line) and short(line)


@pytest.mark.parametrize(("env", "spoil", "said"), [*MISFITS.values(), *WARNED.values()], ids=[*MISFITS, *WARNED])
def test_damage_against_the_environment_is_told(env, spoil, said, worlds):
    found = lines(spoilt(env, spoil), worlds[env])
    assert any(re.search(said, line) for line in found) and all(map(short, found)), found


@pytest.mark.parametrize(("env", "spoil", "said"), ALONE.values(), ids=ALONE)
def test_damage_is_told_without_an_environment(env, spoil, said):
    found = lines(spoilt(env, spoil))
    assert any(re.search(said, line) for line in found) and all(map(short, found)), found


@pytest.mark.parametrize("env", SETS)
def test_what_is_not_spoilt_is_not_blamed(env, worlds):
    for found in (lines(SETS[env]), lines(SETS[env], worlds[env])):
        assert not found


def test_there_are_more_than_sixty_kinds():
    assert len(REFUSED) + len(MISFITS) + len(WARNED) + len(ALONE) + len(FILES) >= 60


FILES = {"an empty file": (lambda whole: b"", "is empty; copy or record it again"),
         "half a file": (lambda whole: whole[:len(whole) // 2], "cut off in the middle"),
         "a pickle": (lambda whole: pickle.dumps([1]), "pickled Python objects, which are never loaded"),
         "a text": (lambda whole: b"obs,actions\n", "; ")}


@pytest.mark.parametrize(("spoil", "said"), FILES.values(), ids=FILES)
def test_damaged_files_are_refused(spoil, said, tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, **SETS["cartpole"])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=said) as error:
        read_demos(path)
    said = str(error.value)
    assert str(path) in said and short(re.split("run this in the package|FILE.toml", said.replace(str(path), ""))[0])


def test_good_sets_end_where_their_episodes_do():
    for d in SETS.values():
        assert d["truncations"][ends(d) - 1].sum() + d["terminations"][ends(d) - 1].sum() == len(d["episode_starts"])


def test_an_environment_that_draws_by_chance_contradicts_nobody():
    demos = puffer_il.collect("random", "frozenlake", episodes=20)
    with World("frozenlake") as world:
        assert "unreproduced" not in {finding.kind for finding in judge(demos, world.spec, world)}


def test_large_sets_are_judged_by_their_first_episodes(monkeypatch):
    monkeypatch.setattr(subject, "ROWS", 250)
    demos = read_demos(spoilt("cartpole", damage.sentinel))
    assert subject.looked_at(demos).num_episodes == 2 and not judge(demos)
