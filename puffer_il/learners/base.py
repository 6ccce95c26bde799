"""What a learner must say and do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from puffer_il.core.config import Config
    from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos


@dataclass(frozen=True)
class About:
    """What `puffer-il algos` and `train auto` tell of an algorithm.

    paper   authors, year and address
    when    one sentence: whom it suits, and what it costs
    spaces  the action spaces it covers: "discrete", "multi-discrete", "continuous"
    """

    paper: str
    when: str
    spaces: tuple[str, ...] = ("discrete", "multi-discrete", "continuous")


class Learner(Protocol):
    """One algorithm: it sees arrays and demonstrations, never a vector environment.

    Built as `Learner(spec, demos, config, device, seed)`; `config` is the run's Config, whose attributes are the
    sections (`config.ppo`, `config.policy`, …). A learner that needs no rollouts gets `buffer=None` in `update`, and
    one update is one pass of its own (BC: an epoch); `done` then tells the trainer that it has converged.
    `progress` is the share of the run that is over, in [0, 1].

    `policy` is a `puffer_il.nn.policy.Policy`, which has the fast way, or a `NumpyPolicy` (with rollouts a
    `NumpyActorCritic`) of any framework. In the second case the class has `make_policy(spec, config)` too, which makes
    an untrained one for a checkpoint's weights. `register` fills in `needs_actions`, `needs_expert` and `about`.

    A learner whose reward can be kept also has `learned_reward()`, which returns a `learned_reward.LearnedReward`; it
    is written beside every checkpoint.
    """

    name: ClassVar[str]
    section: ClassVar[type]  # the dataclass of its config section
    needs_rollouts: ClassVar[bool]
    needs_demos: ClassVar[bool]
    needs_actions: ClassVar[bool]  # False: it reads observations alone, and `demos.actions` may be None
    needs_expert: ClassVar[bool]  # True: it is a Mixer, asks the expert that its section's key `expert` names what to
    # do in states of its own, and finds the answers in `buffer.expert_actions`; demonstrations are then optional
    needs_model: ClassVar[bool]  # True: it plans, and is given the environment's `model`, an MDP, besides
    about: ClassVar[About]
    promised_metrics: ClassVar[tuple[str, ...]]  # keys that `relabel` and `update` report together, every time

    policy: Any  # see above
    done: bool
    steps_per_update: int  # samples of one update, for learners without rollouts
    notices: list[str]  # warnings for the user; the trainer hands them on and clears the list

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: Any, seed: int) -> None: ...

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write what the learner optimises into `buffer.rewards`, in one pass over the whole rollout."""

    def advantages(self, buffer: RolloutBuffer) -> None:
        """Fill `buffer.advantages` and `buffer.returns`."""

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        """Learn from the rollout (or from the demonstrations) and report the promised metrics as plain floats."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly: tensors, arrays, numbers, strings, dicts, lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def finish(self) -> None:
        """Called once when the run has reached its end, before the last evaluation."""
