"""How episodes move, where they begin and which way they take: an arm that reaches for a goal, sound and spoilt."""

from __future__ import annotations

import re

import numpy as np
import pytest

from puffer_il.demos import judge, read_demos
from tests.demos.judge.test_damage import short

EPISODES, STEPS = 40, 60
CAMERA = np.random.default_rng(9).normal(size=(4, 6))


class Arm:
    """A hand that goes from near the origin to a goal, about which a camera says six numbers."""

    def __init__(self, tremble=0.003, seed=0):
        self.rng = np.random.default_rng(seed)
        self.goals = self.rng.uniform([0.6, -0.3], [0.8, 0.3], (EPISODES, 2))
        self.via = np.tile([0.4, 0.2], (EPISODES, 1))
        self.tremble, self.shakes = np.full(EPISODES, tremble), np.zeros(EPISODES)
        self.pause = np.zeros(EPISODES, int)
        self.light = np.zeros(EPISODES)

    def played(self):
        """The arrays of all episodes."""
        at, steps = 0.003 * self.rng.normal(size=(EPISODES, 2)), np.zeros(EPISODES, int)
        seen, done = [], []
        for _ in range(STEPS + 1):
            target = np.where((steps < STEPS // 3)[:, None], self.via, self.goals)
            action = np.clip(0.5 * (target - at), -0.035, 0.035)
            waits = (steps == STEPS // 6) & (self.pause > 0)
            tremble = np.maximum(self.tremble, self.shakes * ((steps >= 28) & (steps < 44)))
            action = np.where(waits[:, None], 0, action) + tremble[:, None] * self.rng.normal(size=(EPISODES, 2))
            eyes = np.tanh(np.concatenate([at, self.goals], 1) @ CAMERA) + self.light[:, None]
            seen.append(np.concatenate([at, self.goals, eyes], 1))
            done.append(action)
            at = at + action + 0.001 * self.rng.normal(size=at.shape)
            self.pause, steps = self.pause - waits, steps + ~waits
        obs, actions = np.array(seen).swapaxes(0, 1), np.array(done).swapaxes(0, 1)
        cut = np.zeros((EPISODES, STEPS), bool)
        cut[:, -1] = True
        return {"obs": obs[:, :-1].reshape(-1, 10).astype(np.float32),
                "next_obs": obs[:, 1:].reshape(-1, 10).astype(np.float32),
                "actions": actions[:, :-1].reshape(-1, 2).astype(np.float32), "terminations": np.zeros(cut.size, bool),
                "truncations": cut.reshape(-1), "rewards": np.ones(cut.size),
                "episode_starts": np.arange(0, cut.size, STEPS)}


def trembles(arm):
    arm.tremble[[3, 4, 11, 12, 30]] *= 10


def trembles_for_a_while(arm):
    """More or less, so that nothing divides those who do from those who do not."""
    arm.shakes = arm.rng.permutation(np.linspace(0, 0.03, EPISODES))


def hesitates(arm):
    arm.pause[[5, 17]] = 25


def two_ways(arm):
    arm.via[arm.rng.random(EPISODES) < 0.4, 1] *= -1


def hole(arm):
    arm.goals[:, 1] = np.where(np.abs(arm.goals[:, 1]) < 0.12, 0.25 * np.sign(arm.goals[:, 1]), arm.goals[:, 1])
    arm.goals += 0.01 * arm.rng.normal(size=arm.goals.shape)


def other_light(arm):
    arm.light[[2, 9, 10, 21, 33, 38]] = 1.2


KINDS = {
    "hands that shake": (trembles, "trembling", r"of 5 of 40 episodes \(3, 4, 11, 12, 30\) tremble .* times.*--drop"),
    "hands that shake for a while": (trembles_for_a_while, "unsteady",
                                     r"episode 2, row 14[5-9]: 1\d of 40 .*\(2, 5.*\) tremble up to .* for a while"),
    "hesitation": (hesitates, "hesitating", r"episode 5, row 3..: stands still in .*\(2 such: 5, 17\); .*cut"),
    "two ways round": (two_ways, "ways",
                       r"two ways from one start: obs column 1 is .*, else .*--policy.head mix"),
    "a hole in the goals": (hole, "gap", r"no episode begins with obs column 3 between -0.* and 0.*; add"),
    "another light": (other_light, "sessions", r"episode 2, row 120: \d .*\(4, 5, 6, .*\) read otherwise in 6 ep"),
}


def found(arm, change=lambda d: None):
    d = arm.played()
    change(d)
    return {finding.kind: finding.line for finding in judge(read_demos(d))}


def loose_joint(d):
    """Actions that are the positions to come, and in episode 7 one which the arm does not follow."""
    d["actions"] = d["next_obs"][:, :2] + 0.001 * np.random.default_rng(0).normal(size=(len(d["obs"]), 2))
    d["actions"][420:480, 1] = d["next_obs"][450, 1]


def pinned(d):
    """Actions that swing gently, and in episode 5 from one end to the other."""
    turn = 2 * np.pi * (np.arange(len(d["obs"])) / 20 + np.repeat(np.random.default_rng(0).random(EPISODES), STEPS))
    swing = np.stack([np.sin(turn), np.cos(turn)], 1)
    swing[300:360] = np.sign(swing[300:360])
    d["actions"] = swing


@pytest.mark.parametrize(("change", "said"), [
    (loose_joint, r"episode 7: unlike the rest: its distance of obs column 1 from action 1 is 0\.1.*--drop"),
    (pinned, "episode 5: unlike the rest: its share of actions at their limits is 1.*--drop")])
def test_an_arm_that_does_not_follow_and_actions_at_their_limits_are_told(change, said):
    lines = found(Arm(), change)
    assert re.search(said, lines["unlike"]) and short(lines["unlike"])


def test_an_arm_that_follows_is_not_blamed():
    def follows(d):
        loose_joint(d)
        d["actions"][420:480, 1] = d["next_obs"][420:480, 1]

    assert "unlike" not in found(Arm(), follows)


def test_a_stage_in_which_every_hand_shakes_is_not_blamed():
    arm = Arm()
    arm.shakes[:] = 0.02
    assert not found(arm)


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_arm_is_not_blamed(seed):
    assert not found(Arm(seed=seed))


@pytest.mark.parametrize(("spoil", "kind", "said"), KINDS.values(), ids=KINDS)
def test_what_is_wrong_with_the_arm_is_told(spoil, kind, said):
    arm = Arm()
    spoil(arm)
    lines = found(arm)
    assert lines.keys() - {"unlike"} == {kind} and re.search(said, lines[kind]), lines
    assert all(map(short, lines.values()))


def test_an_actuator_that_goes_numb_is_told():
    def numb(d):
        rows = np.arange(len(d["obs"])) % STEPS
        part = (rows >= 20) & (rows < 40)
        d["actions"][part, 0] = 1e-4 * np.random.default_rng(0).normal(size=part.sum())

    line = found(Arm(), numb)["numb-action"]
    assert re.search(r"episode 0, row \d+: action column 0 hardly moves in 27% of the rows.*stuck", line), line


def test_what_is_held_still_or_comes_to_rest_is_not_numb():
    def held(d):
        d["actions"] = np.column_stack([d["actions"], np.arange(len(d["obs"])) % STEPS > 30]).astype(np.float32)

    assert "numb-action" not in found(Arm(), held)
    assert "numb-action" not in found(Arm(tremble=0.0))


def test_a_sensor_that_is_off_for_an_episode_is_told():
    def off(d):
        d["obs"][5 * STEPS:6 * STEPS, 0] = d["obs"][5 * STEPS, 0]
        d["next_obs"][5 * STEPS:6 * STEPS, 0] = d["obs"][5 * STEPS, 0]

    line = found(Arm(), off)["frozen"]
    assert re.search(r"episode 5, row 300: obs column 0 never changes in 1 of 40 episodes \(5\)", line), line


def test_a_log_that_lost_its_last_rewards_contradicts_no_total():
    d = Arm().played()
    d["rewards"] = np.random.default_rng(0).uniform(0, 1, len(d["obs"]))
    told = np.add.reduceat(d["rewards"], d["episode_starts"])
    assert "totals" not in found(Arm(), lambda made: made.update(rewards=d["rewards"], episode_returns=told + 0.9))
    assert "totals" in found(Arm(), lambda made: made.update(rewards=d["rewards"], episode_returns=told + 3))
