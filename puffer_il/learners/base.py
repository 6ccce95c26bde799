"""What a learner must say and do: the class `Learner`, whose defaults are right for most of them."""

from dataclasses import dataclass
from typing import Any, ClassVar

from puffer_il.core.checkpoint import Stateful
from puffer_il.core.config import Config
from puffer_il.core.spec import ActionSpec, EnvSpec, Metrics


@dataclass(frozen=True)
class About:
    """What `puffer-il algos` and `train auto` tell of an algorithm.

    paper   authors, year and address
    when    one sentence: whom it suits, and what it costs
    spaces  the action spaces it covers: "discrete", "multi-discrete", "continuous"
    heads   what `policy.head` may be; others than "plain" need no more than samples and, but for a flow, likelihoods
    chunks  True if it learns several actions at once (`policy.chunk`)
    bounded True if continuous actions must have finite bounds
    """

    paper: str
    when: str
    spaces: tuple[str, ...] = ("discrete", "multi-discrete", "continuous")
    heads: tuple[str, ...] = ("plain",)
    chunks: bool = False
    bounded: bool = False

    def covers(self, action: ActionSpec) -> bool:
        return action.kind in self.spaces and (action.bounded or not self.bounded)


class Learner(Stateful):
    """One algorithm: it sees arrays and demonstrations, never a vector environment.

    A subclass names its `section` and `about`, makes a `policy`, and defines `update`; everything else has a default. A
    class that does not derive from this one must have all of its public attributes.

    What a resumed run needs to end with the same weights is what `saved` names (core.checkpoint.Stateful).

    `policy` is a `puffer_il.nn.policy.Policy`, which has the fast way, or a `NumpyPolicy` (with rollouts a
    `NumpyActorCritic`) of any framework. In the second case the class has `make_policy(spec, config)` too, which makes
    an untrained one for a checkpoint's weights.

    A learner whose reward can be kept also has `learned_reward()`, which returns a `learned_reward.LearnedReward`; it
    is written beside every checkpoint.
    """

    name: ClassVar[str]  # by which `register` makes it known; its section has the same
    uses: ClassVar[tuple[str, ...]]  # the learners whose sections it needs too, as it told `register`
    section: ClassVar[type]  # the dataclass of its config section
    about: ClassVar[About] = About("not said", "not said")

    needs_rollouts: ClassVar[bool] = True  # False: one update is one pass of its own (BC: an epoch)
    needs_demos: ClassVar[bool] = True
    needs_actions: ClassVar[bool] = True  # False: it reads observations alone, and `demos.actions` may be None
    needs_expert: ClassVar[bool] = False  # True: it is a Mixer, asks the expert that its section's key `expert` names
    # what to do in states of its own, and finds the answers in `buffer.expert_actions`; demonstrations are optional
    needs_model: ClassVar[bool] = False  # True: it plans, and is given the environment's `model`, an MDP, besides
    plays_game: ClassVar[bool] = False  # True: its reward learns against its policy, which therefore may go round its
    # goal for ever; evaluations and the user get the average of its last policies, as `train.policy_memory` says
    promised_metrics: ClassVar[tuple[str, ...]] = ()  # keys that `relabel` and `update` report together, every time

    policy: Any  # see above
    config: Any  # its section
    notices: list[str]  # warnings for the user; the trainer hands them on and clears the list
    done: bool = False  # True: it has converged, and the run ends
    steps_per_update: int = 0  # samples of one update; with rollouts their steps count instead

    def __init__(self, spec: EnvSpec, demos: Any, config: Config, device: Any, seed: int) -> None:
        """`demos` are Demos, None if there are none; `config` is the run's, whose attributes are its sections
        (`config.ppo`, `config.policy`, …)."""
        self.config, self.device = getattr(config, self.name), device
        self.notices = []

    def relabel(self, buffer: Any) -> Metrics:
        """Write what the learner optimises into `buffer.rewards`, in one pass over the whole RolloutBuffer. By default
        that is the environment's own reward."""
        return {}

    def advantages(self, buffer: Any) -> None:
        """Fill `buffer.advantages` and `buffer.returns`, if the learner reads them."""

    def update(self, buffer: Any, progress: float) -> Metrics:
        """Learn from the RolloutBuffer (None without rollouts) and report the promised metrics as plain floats.

        `progress` is the share of the run that is over, in [0, 1].
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Called once when the run has reached its end, before the last evaluation. By default the last weights are the
        result."""
