"""Recordings: rounds that begin from seeds of their own, filters, noise, and going on where one was stopped."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import Discard, InputError, Quit
from puffer_il.demos.noise import noise_of
from puffer_il.demos.record import Recorded, Recorder, Recording, Wanted, best_of, first_of, recorded, seed_of
from puffer_il.rollout.actors import RandomActor
from puffer_il.vector.vec import make_vec


class Lucky(gymnasium.Env):
    """Episodes of 1 to 6 steps that pay their number; those of an even number succeed."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, tells=True):
        self.tells = tells

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.number = int(self.np_random.integers(1, 7))
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        info = {"is_success": self.number % 2 == 0} if over and self.tells else {}
        return self.np_random.random(2, np.float32), 1.0, over, False, info


def assert_same(one, other):
    for name in ("obs", "actions", "next_obs", "rewards", "terminations", "episode_starts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.notes == other.notes


def run(vec, episodes, at=None, seed=3, actor=None, **options):
    actor = actor or RandomActor(vec.spec, seed)
    *_, last = Recorder(vec, actor, "d", **options).record(episodes, at or Recorded((), Recording(seed, vec.num_envs)))
    return last


@pytest.fixture
def vec():
    with make_vec(Lucky, num_envs=4, backend="serial") as vec:
        yield vec


def test_every_round_begins_from_a_seed_of_its_own(vec):
    demos = recorded(vec, RandomActor(vec.spec, 3), 10, "d", seed=3)
    assert demos.num_episodes == 10 and len({seed_of(3, k) for k in range(50)}) == 50
    for k in range(3):
        again = recorded(vec, RandomActor(vec.spec, 0), 4, "d", seed=seed_of(3, k))
        count = min(4, 10 - 4 * k)
        np.testing.assert_array_equal(again.obs[again.episode_starts[:count]],
                                      demos.obs[demos.episode_starts[4 * k:4 * k + count]])


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(min_return=4), Wanted(successes=True)])
@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_recording_that_was_stopped_goes_on_as_if_it_had_not_been(vec, wanted, after):
    whole = run(vec, 11, wanted=wanted).demos("d")
    asked = iter(range(10**6))
    first = run(vec, 11, wanted=wanted, stopped=lambda: next(asked) >= after)
    assert not first.finished and first.count < 11
    kept = first.recording.whole
    at = Recorded((first_of(first.demos("d"), kept),) if kept else (), first.recording)
    assert_same(run(vec, 11, at, wanted=wanted).demos("d"), whole)


def test_more_episodes_are_added_to_those_that_there_are(vec):
    six = run(vec, 6)
    at = Recorded((first_of(six.demos("d"), six.recording.whole),), six.recording)
    assert (six.recording.rounds, six.recording.whole) == (1, 4)
    assert_same(run(vec, 11, at).demos("d"), run(vec, 11).demos("d"))


def test_finished_episodes_of_a_round_that_is_stopped_are_kept_whole(vec):
    asked = iter(range(10**6))
    demos = run(vec, 4, stopped=lambda: next(asked) >= 3).demos("d")
    assert 0 < demos.num_episodes < 4 and demos.terminated.all()
    assert (demos.lengths <= 3).all() and demos.returns.tolist() == demos.lengths.tolist()


def test_only_episodes_that_pass_are_kept(vec):
    assert (run(vec, 12, wanted=Wanted(min_return=4)).demos("d").returns >= 4).all()
    assert (run(vec, 12, wanted=Wanted(successes=True)).demos("d").lengths % 2 == 0).all()
    both = run(vec, 9, wanted=Wanted(min_return=4, successes=True)).demos("d")
    assert set(both.lengths.tolist()) == {4, 6} and both.num_episodes == 9


def test_the_best_are_kept_in_their_order(vec):
    demos = run(vec, 12).demos("d")
    best = best_of(demos, 3)
    assert sorted(best.returns.tolist()) == sorted(demos.returns.tolist())[-3:]
    assert best.num_episodes == 3 and np.isin(best.obs, demos.obs).all()
    assert best_of(demos, 99) is demos


def test_too_few_that_pass_are_an_error_which_says_how_many_did(vec):
    last = []
    with pytest.raises(InputError, match=r"d: 0 of 40 episodes were kept \(return at least 7\), where 2 are asked"):
        for at in Recorder(vec, RandomActor(vec.spec, 0), "d", Wanted(min_return=7)).record(
                2, Recorded((), Recording(0, 4))):
            last.append(at)
    assert len(last) == 10 and not last[-1].parts


def test_successes_are_asked_of_environments_that_tell_them():
    with make_vec(Lucky, num_envs=2, backend="serial", kwargs={"tells": False}) as vec, (
            pytest.raises(InputError, match=r"does not say whether an episode succeeded .* --min-return instead")):
        run(vec, 2, wanted=Wanted(successes=True))


@pytest.mark.parametrize(("epsilon", "std"), [(0.3, 0.0), (0.0, 0.5)])
def test_noise_is_done_and_not_recorded(vec, epsilon, std):
    sent, step = [], vec.step
    vec.step = lambda actions: sent.append(actions.copy()) or step(actions)
    actor = lambda obs, starts: np.full((len(obs), 1), 0.5, np.float32)  # noqa: E731
    demos = run(vec, 40, actor=actor, noise=noise_of(vec.spec, epsilon, std)).demos("d")
    assert (demos.actions == 0.5).all()
    done = np.concatenate(sent)
    assert np.abs(done).max() <= 1
    if epsilon:
        assert (done != 0.5).mean() == pytest.approx(0.3, abs=0.1)
    else:
        assert 0.25 < done.std() < 0.6
    again = run(vec, 40, actor=actor, noise=noise_of(vec.spec, epsilon, std)).demos("d")
    assert_same(again, demos)


def test_noise_that_actions_cannot_have_is_refused():
    with make_vec("cartpole", num_envs=1) as vec, pytest.raises(InputError, match="no continuous actions"):
        noise_of(vec.spec, std=0.1)


class Quits:
    """Has had enough in its third episode, and discards its first."""

    def __init__(self):
        self.episodes = 0

    def __call__(self, obs, starts):
        self.episodes += int(starts[0])
        if self.episodes == 1:
            raise Discard
        if self.episodes == 3:
            raise Quit
        return np.zeros((1, 1), np.float32)


def test_a_person_discards_an_episode_and_ends_with_what_is_finished():
    with make_vec(Lucky, num_envs=1, backend="serial") as vec:
        last = run(vec, 5, actor=Quits())
        assert not last.finished and last.count == 1
        assert (last.recording.rounds, last.recording.played, last.recording.whole) == (2, 2, 1)
        actor = lambda obs, starts: np.zeros((1, 1), np.float32)  # noqa: E731
        np.testing.assert_array_equal(last.demos("d").obs, recorded(vec, actor, 1, "d", seed=seed_of(3, 1)).obs)
