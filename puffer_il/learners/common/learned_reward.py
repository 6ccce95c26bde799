"""A learned reward that outlives its run: the file `reward.pt` holds all that it takes to compute it, and no learner.

A learner offers one by a method `learned_reward() -> LearnedReward`; the trainer writes it beside every checkpoint.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.inputs import paired_with, pass_rows
from puffer_il.learners.common.rewards import reward_from_logits
from puffer_il.learners.registry import get_learner, learner_names
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import rollout_on

FILE = "reward.pt"
FORMAT = 2
KINDS: dict[str, type[LearnedReward]] = {}


class LearnedReward(nn.Module):
    """Raw rows → rewards (n,) float32: `reward(obs, actions, next_obs)`.

    obs, next_obs  (n, *obs_shape) in the environment's dtype; next_obs are true successors
    actions        (n, dim) int32 or float32
    What `reads` does not name may be None.

    absorbing      what each step pays after a termination, in the absorbing state; None where the learner has none,
                   so that a termination is worth 0
    `arguments` are the numbers, strings and lists from which the constructor makes the same reward again. A kind of
    reward is a subclass that names its `kind`; one that only its learner knows may stand in the learner's file.
    """

    kind: ClassVar[str]
    reads: tuple[str, ...] = ("obs", "actions", "next_obs")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        KINDS[cls.kind] = cls

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, **arguments: Any) -> None:
        super().__init__()
        self.spec, self.algo, self.absorbing, self.arguments = spec, algo, absorbing, arguments

    @torch.no_grad()
    def of_rows(self, obs: Tensor, actions: Tensor | None, next_obs: Tensor | None) -> Tensor:
        """The same of many rows, part by part, without gradients."""
        parts = [None if x is None else x.split(pass_rows(self.spec)) for x in (obs, actions, next_obs)]
        count = len(parts[0] or ())
        return torch.cat([self(*(None if part is None else part[k] for part in parts)) for k in range(count)])

    def of_rollout(self, buffer: RolloutBuffer, device: torch.device) -> Tensor:
        """The same of every row of a rollout, (num_steps·num_envs,) on the device."""
        rollout = rollout_on(buffer, device)
        return self.of_rows(rollout["obs"].flatten(0, 1), rollout["actions"].flatten(0, 1),
                            rollout.next_obs() if "next_obs" in self.reads else None)

    def predict(self, obs: Any, actions: Any = None, next_obs: Any = None) -> Array:
        """Rewards (n,) float32 of n transitions in arrays, as `Demos` hold them: `reward.predict(demos.obs,
        demos.actions, demos.next_obs)`. InputError where something is missing that it `reads`, or of other rows."""
        given = {"obs": obs, "actions": actions, "next_obs": next_obs}
        missing = [name for name in self.reads if given[name] is None]
        if missing:
            raise InputError(f"the reward of {self.algo} reads {missing[0]}, which is missing; give an array of it")
        spec, device = self.spec, next(chain(self.parameters(), self.buffers()), torch.empty(0)).device
        rows, following = spec.pack(obs)[0], None if next_obs is None else spec.pack(next_obs)[0]
        done = None if actions is None else np.asarray(actions, spec.action.dtype)
        if following is not None and len(following) != len(rows):
            raise InputError(f"next_obs has {len(following)} rows but obs has {len(rows)}; give one for each")
        if done is not None and done.size not in (len(rows) * spec.action.dim, len(rows) * spec.action.width):
            raise InputError(f"actions have shape {done.shape} but obs has {len(rows)} rows; give an action of "
                             f"{spec.action.width} for each")
        columns = rows, None if done is None else spec.action.chosen(done.reshape(len(rows), -1)), following
        seen, *others = (None if x is None else torch.tensor(x, device=device) for x in columns)
        assert seen is not None
        return self.of_rows(seen, *others).cpu().numpy()


class NetworkReward(LearnedReward):
    """A network of s, s′, (s, a) or (s, s′), as discriminators are, and the named form of what it says, clipped."""

    kind = "network"

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *, inputs: str = "state_action",
                 hidden: tuple[int, ...] | list[int] = (64, 64), activation: str = "tanh", spectral_norm: bool = False,
                 form: str = "logit", clip: float = 0.0) -> None:
        super().__init__(spec, algo, absorbing, inputs=inputs, hidden=list(hidden), activation=activation,
                         spectral_norm=spectral_norm, form=form, clip=clip)
        self.network = Discriminator(spec, tuple(hidden), activation, spectral_norm, inputs)
        self.form, self.clip = form, clip
        self.reads = {"state": ("obs",), "next_state": ("next_obs",), "state_action": ("obs", "actions"),
                      "state_next_state": ("obs", "next_obs")}[inputs]

    @classmethod
    def of(cls, spec: EnvSpec, algo: str, network: Discriminator, absorbing: float | None = None, *,
           hidden: tuple[int, ...], activation: str, form: str = "logit", clip: float = 0.0) -> NetworkReward:
        """A copy of a learner's network as it is now; `hidden` and `activation` are those that it was made of."""
        with torch.random.fork_rng([]):  # a checkpoint must not move the run's generator
            reward = cls(spec, algo, absorbing, inputs=network.kind, hidden=hidden, activation=activation,
                         spectral_norm=network.spectral_norm, form=form, clip=clip).to(network.absorbing.device)
        reward.load_state_dict({f"network.{name}": tensor for name, tensor in network.state_dict().items()})
        return reward

    def forward(self, obs: Tensor, actions: Tensor | None = None, next_obs: Tensor | None = None) -> Tensor:
        paired = paired_with(self.network.kind, actions, next_obs)
        return reward_from_logits(self.network(self.network.rows(obs, paired)), self.form, self.clip)


class TableReward(LearnedReward):
    """A number per state (S,), per state and action (S, A), or per transition (S, A, S), of an environment whose
    observations are category numbers."""

    kind = "table"
    table: Tensor

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *, shape: list[int]) -> None:
        super().__init__(spec, algo, absorbing, shape=list(shape))
        self.register_buffer("table", torch.zeros(shape))
        self.reads = ("obs", "actions", "next_obs")[:len(shape)]

    @classmethod
    def of(cls, spec: EnvSpec, algo: str, table: Array, absorbing: float | None = None) -> Self:
        """From numbers of any of the three shapes."""
        reward = cls(spec, algo, absorbing, shape=list(table.shape))
        reward.table.copy_(torch.from_numpy(np.asarray(table, np.float32)))
        return reward

    def forward(self, obs: Tensor, actions: Tensor | None = None, next_obs: Tensor | None = None) -> Tensor:
        given = {"obs": obs, "actions": actions, "next_obs": next_obs}
        return self.table[tuple(given[name].reshape(-1).long() for name in self.reads)]  # type: ignore[union-attr]


def save_reward(reward: LearnedReward, path: Path) -> None:
    """Write it whole or not at all."""
    checkpoint.write_tensors(path, reward_state(reward))


def reward_state(reward: LearnedReward) -> dict[str, Any]:
    """What the file of a reward holds."""
    return {"format": FORMAT, "kind": reward.kind, "algo": reward.algo, "spec": checkpoint.spec_to_state(reward.spec),
            "absorbing": reward.absorbing, "arguments": reward.arguments, "state": reward.state_dict()}


def load_reward(source: Path | str, device: torch.device | str = "cpu") -> LearnedReward:
    """The reward of a run directory, or of a file. InputError if there is none, or if it cannot be read."""
    path = Path(source) / FILE if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise InputError(f"{source}: holds no learned reward ({FILE}); give the run directory of an algorithm that "
                         "learns one, such as airl or gail")
    what = f"learned reward {path}"
    state = checkpoint.read_tensors(what, path, FORMAT, "train it again", device)
    with checkpoint.fitting(what, "train it again"):
        return _made(path, state, device)


def _made(path: Path, state: dict[str, Any], device: torch.device | str) -> LearnedReward:
    """The reward of a file's content."""
    if state["kind"] not in KINDS and state["algo"] in learner_names():
        get_learner(state["algo"])  # its file defines the kind
    if state["kind"] not in KINDS:
        raise InputError(f"learned reward {path}: kind {state['kind']!r} is unknown; install the package that offers "
                         f"the algorithm {state['algo']!r}")
    reward = KINDS[state["kind"]](checkpoint.spec_from_state(state["spec"]), state["algo"], state["absorbing"],
                                  **state["arguments"]).to(device)
    reward.load_state_dict(state["state"])
    rows, action = reward.spec.blank(2), reward.spec.action
    try:
        reward.eval().requires_grad_(False).predict(rows, np.zeros((2, action.dim), action.dtype), rows)
    except InputError as error:  # it does not take the rows of its own spaces
        raise ValueError(str(error)) from None
    return reward


def check_spaces(reward: LearnedReward, spec: EnvSpec, source: str) -> None:
    """InputError unless the reward can read this environment's rows; actions matter only where it reads them."""
    own = reward.spec
    if (own.obs_shape, own.obs_dtype, own.obs_fields) != (spec.obs_shape, spec.obs_dtype, spec.obs_fields):
        raise InputError(f"{source}: this reward reads observations {own.obs_dtype} {own.obs_shape} of {own.name}, but "
                         f"those of {spec.name} are {spec.obs_dtype} {spec.obs_shape}; give a reward learned from such")
    if "actions" in reward.reads and own.action != spec.action:
        raise InputError(f"{source}: this reward reads actions, which differ between {spec.name} and {own.name}, where "
                         "it was learned; give one that reads states alone (airl.inputs = 'state')")
