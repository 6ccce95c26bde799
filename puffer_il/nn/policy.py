"""The actor-critic: act (rollouts), evaluate (updates), predict (Stable-Baselines3's interface)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.actions import first_of
from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.nn import sequences
from puffer_il.nn.chunks import Chunks, chunked
from puffer_il.nn.distributions import Noise
from puffer_il.nn.flow import Flow
from puffer_il.nn.fused import Layers
from puffer_il.nn.fused_memory import remember, unroll
from puffer_il.nn.heads import make_head
from puffer_il.nn.masks import mask_logits
from puffer_il.nn.mixture import Mixture
from puffer_il.nn.networks import Encoder, mlp, orthogonal
from puffer_il.nn.observations import Flatten


def unpack_state(state: Any, first: bool) -> tuple[Any, Any]:
    """Of a state as `predict` returned it: the policy's own, if it has one, which comes `first`, and the pictures that
    it has seen; each None where it is not there."""
    parts = () if state is None else tuple(state)
    return (parts[0] if first and parts else None), (parts[-1] if len(parts) > first else None)


class Policy(nn.Module):
    """Observation → encoder (→ LSTM or GRU) → actor and critic, separate or on a shared trunk.

    Observations are raw rows (n, *obs_shape) in the environment's dtype, actions (n, dim) as ActionSpec says. The
    recurrent state is one float32 row (n, state_dim) holding the hidden state, an LSTM's cell, and what a chunk of
    actions leaves to be done (`chunks`); state_dim is 0 without either.

    Where the environment says which actions may be taken, features are followed by that (`Flatten`), which the networks
    do not see, and no other action has a probability.

    With `policy.chunk` the distribution is one of `chunk` actions side by side, and `act` gives the one whose turn it
    is; log-probabilities are then those of the chunks, of the rows that have got a new one (with masks those of the
    steps that are done).
    """

    def __init__(self, spec: EnvSpec, config: PolicyConfig) -> None:
        super().__init__()
        if torch.get_default_dtype() != torch.float32:
            raise InputError(f"torch's default dtype is {torch.get_default_dtype()} and networks here are of float32; "
                             "call torch.set_default_dtype(torch.float32) first")
        self.spec = spec
        self.flatten = Flatten(spec, with_mask=True)
        self.encoder = Encoder(self.flatten, config.obs_norm)
        if config.lstm and config.gru:
            raise InputError(f"policy.gru = {config.gru}: there is an LSTM already (policy.lstm = {config.lstm}); set "
                             "one of them to 0")
        inputs = config.memory or self.encoder.dim
        self.chunks = Chunks(spec.action, config, masked=spec.mask is not None)
        self.dist: Any = make_head(chunked(spec.action, config.chunk), config, inputs)
        self.plain = config.head == "plain" and config.chunk == 1
        # Of a step of a chunk by itself, which is masked and chosen when its turn comes.
        masked = spec.mask is not None and config.chunk > 1
        self.step_dist: Any = make_head(spec.action, config, inputs) if masked else None
        self.lstm = nn.LSTMCell(self.encoder.dim, config.lstm) if config.lstm else None
        self.gru = nn.GRUCell(self.encoder.dim, config.gru) if config.gru else None
        self.memory_dim = 2 * config.lstm + config.gru
        self.state_dim = self.memory_dim + self.chunks.state_dim
        # A small last actor layer starts the policy near uniform, whatever the observation (Andrychowicz et al. 2021).
        self.actor: nn.Module
        self.critic: nn.Module
        self.joint: Layers | None = None
        if config.shared:
            self.trunk: nn.Module = mlp(inputs, config.hidden, None, config.activation)
            actor = orthogonal(nn.Linear(config.hidden[-1], self.dist.num_params), 0.01)
            critic = orthogonal(nn.Linear(config.hidden[-1], 1), 1.0)
            trunk = [layer for layer in self.trunk.modules() if isinstance(layer, nn.Linear)]
            self.joint = Layers(trunk, [actor, critic], config.activation)
            self.actor, self.critic = actor, critic
        else:
            self.trunk = nn.Identity()
            self.actor = nn.Identity() if isinstance(self.dist, Flow) else (
                mlp(inputs, config.hidden, self.dist.num_params, config.activation, 0.01))
            self.critic = mlp(inputs, config.hidden, 1, config.activation, 1.0)
        if isinstance(self.dist, Mixture):
            last = [layer for layer in self.actor.modules() if isinstance(layer, nn.Linear)][-1]
            self.dist.spread(last, config.chunk)

    def actor_parameters(self) -> list[nn.Parameter]:
        """All but the critic's, which come last: what a learner trains that reads no values."""
        critic = {id(p) for p in self.critic.parameters()}
        return [p for p in self.parameters() if id(p) not in critic]

    @property
    def memory(self) -> nn.LSTMCell | nn.GRUCell | None:
        """What remembers."""
        return self.gru if self.lstm is None else self.lstm

    @property
    def value_head(self) -> nn.Linear:
        """The critic's last layer."""
        layer = self.critic if isinstance(self.critic, nn.Linear) else list(self.critic)[-1]  # type: ignore[call-overload]
        assert isinstance(layer, nn.Linear)
        return layer

    def initial_state(self, n: int) -> Tensor | None:
        """Zero recurrent state for n rows, None where there is none."""
        return torch.zeros(n, self.state_dim, device=self._device) if self.state_dim else None

    @torch.no_grad()
    def act(self, obs: Tensor, state: Tensor | None = None, noise: Noise | None = None, first_row: int = 0,
            deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One step of n rows: actions (n, dim), log-probabilities (n,), values (n,), next recurrent state.

        `noise` is that of the vector's step, `first_row` the place of these rows in the vector.
        """
        if self.chunks.state_dim:
            assert state is not None
            return self._act_on_chunks(obs, state, noise, first_row, deterministic)
        features, state = self._encode(obs, state)
        params, values = self.heads(features)
        actions, logprobs = self._choose(params, noise, first_row, deterministic)
        return actions[:, :self.spec.action.dim], logprobs, values, state

    def _act_on_chunks(self, obs: Tensor, state: Tensor, noise: Noise | None, first_row: int,
                       deterministic: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same where chunks are under way; no network runs if no row needs a new one, except for a memory."""
        memory, begun = state[:, :self.memory_dim], state[:, self.memory_dim:]
        due, chunks = self.chunks.due(begun), None
        logprobs = values = torch.zeros(len(obs), device=obs.device)
        if bool(due.any()):
            features, memory = self._encode(obs, memory)
            chunks, values = self.heads(features)
            if self.step_dist is None:
                chunks, logprobs = self._choose(chunks, noise, first_row, deterministic)
                logprobs = logprobs * due
        elif self.memory is not None:
            memory = self._encode(obs, memory)[1]
        actions, begun = self.chunks.follow(begun, due, chunks)
        if self.step_dist is not None:  # these are logits
            logits = mask_logits(actions, self.flatten.allowed(obs), self.spec.action.nvec)
            actions, logprobs = self._choose(logits, noise, first_row, deterministic)
        kind = torch.int32 if self.spec.action.discrete else torch.float32
        return actions.to(kind), logprobs, values, torch.cat((memory, begun), 1)

    def _choose(self, params: Tensor, noise: Noise | None, first_row: int,
                deterministic: bool) -> tuple[Tensor, Tensor]:
        """Actions, or chunks of them, and their log-probabilities."""
        dist = self.dist if self.step_dist is None or params.shape[1] == self.dist.num_params else self.step_dist
        if not deterministic:
            return dist.sample(params, noise, first_row)
        actions = dist.mode(params)
        return actions, dist.log_prob(params, actions)

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the action distribution (n, num_params) and values (n,) of the encoder's or memory's rows."""
        features, allowed = self._apart(features)
        if self.joint is not None and self.joint.usable(features):
            both = self.joint(features)
            return self._masked(both[:, :-1], allowed), both[:, -1]
        features = self.trunk(features)
        return (self._masked(self.actor(features).float(), allowed),  # autocast's are bfloat16
                self.critic(features).squeeze(-1).float())

    def _apart(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the networks see, and (n, choices) what may be done."""
        count = self.flatten.num_masked
        return (features[:, :-count], features[:, -count:] > 0) if count else (features, None)

    def _masked(self, params: Tensor, allowed: Tensor | None) -> Tensor:
        """Parameters of which what may not be done has no chance; of a chunk those of the first step."""
        if allowed is None:
            return params
        now, later = params[:, :allowed.shape[1]], params[:, allowed.shape[1]:]
        now = mask_logits(now, allowed, self.spec.action.nvec)
        return now if self.chunks.size == 1 else torch.cat((now, later), 1)

    @torch.no_grad()
    def value(self, obs: Tensor, state: Tensor | None = None) -> Tensor:
        """Critic's values (n,) of raw observations, the recurrent state being that before them."""
        features = self._encode(obs, state)[0]
        if self.joint is not None:
            return self.heads(features)[1]
        return self.critic(self._apart(features)[0]).squeeze(-1).float()

    def evaluate(self, obs: Tensor, actions: Tensor, state: Tensor | None = None,
                 episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and values, each (n,), of given rows, with gradients.

        With a memory, rows are whole sequences (num_steps, m, …), `state` (m, state_dim) precedes them and is zeroed
        before every step where `episode_starts` (num_steps, m) is set; the results are flattened in the same order.
        """
        if self.memory is None:
            features = self.encoder.observe(self.flatten, obs.reshape(-1, *self.spec.obs_shape))
        else:
            assert state is not None
            features, _ = self.unroll(obs, state, episode_starts)
        params, values = self.heads(features)
        logprobs, entropy = self.dist.log_prob_entropy(params, actions.reshape(len(features), -1))
        return logprobs, entropy, values

    def action_params(self, obs: Tensor) -> Tensor:
        """Parameters of the action distribution for raw rows (n, *obs_shape), with gradients (no memory)."""
        return self.params(self.encoder.observe(self.flatten, obs))

    def params(self, features: Tensor) -> Tensor:
        """The same for features of the encoder or the memory."""
        if self.joint is not None:
            return self.heads(features)[0]
        features, allowed = self._apart(features)
        return self._masked(self.actor(features).float(), allowed)

    def unroll(self, obs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The memory over sequences (num_steps, m, *obs_shape): features (num_steps·m, units) and the state after."""
        assert self.memory is not None
        steps, m = obs.shape[:2]
        seen, allowed = self._seen(obs.reshape(-1, *self.spec.obs_shape))
        features = seen.reshape(steps, m, -1)
        if (done := unroll(self.memory, features, state, episode_starts)) is not None:
            return torch.cat((done[0], *allowed), 1), done[1]
        if sequences.in_one_call(features):
            hidden, state = sequences.run(self.memory, features, state, episode_starts)
            return torch.cat((hidden, *allowed), 1), state
        keep = None if episode_starts is None else 1 - episode_starts.to(state).unsqueeze(-1)
        outputs = []
        for t in range(steps):
            state = self._remember(features[t], state if keep is None else state * keep[t])
            outputs.append(state[:, :self.memory.hidden_size])
        return torch.cat((torch.cat(outputs), *allowed), 1), state

    def _remember(self, features: Tensor, state: Tensor) -> Tensor:
        """The state after features (m, dim) have been seen, by torch."""
        if self.lstm is not None:
            return torch.cat(self.lstm(features, tuple(state.chunk(2, dim=1))), 1)
        assert self.gru is not None
        return self.gru(features, state)

    def _seen(self, obs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The encoder's features of raw rows, and apart from them the columns that say what may be done, if any."""
        features, count = self.encoder.observe(self.flatten, obs), self.flatten.num_masked
        return (features[:, :-count], (features[:, -count:],)) if count else (features, ())

    def predict(self, obs: Any, state: Any = None, episode_start: Any = None,
                deterministic: bool = False, action_masks: Any = None) -> tuple[Any, Any]:
        """Stable-Baselines3's interface: numpy observations in, actions in the environment's own form out.

        obs            one observation or a batch (n, *obs_shape); for Dict and Tuple spaces a dict or tuple of either
        state          what the last call returned, or None to begin; only policies with a memory or with chunks have
                       one: without it, the memory has seen nothing, and a chunk's first action is done. Also of a
                       policy that sees several pictures at once (env.stack) and is given single ones: the ones before
        episode_start  (n,) bool, True forgets the state of the rows where a new episode begins; needed in the first
                       call where single pictures are stacked
        deterministic  act by the mode; otherwise actions are sampled by torch's generator
        action_masks   (choices,) or (n, choices), nonzero for what may be done, as sb3-contrib's MaskablePPO takes it;
                       None for what the observation says, or for anything where that says nothing
        Returns one action or n of them, int64 or float32, within the range (a dict or tuple of such for a Dict or Tuple
        space); and the next state. InputError for
        observations of another shape.
        """
        memory, seen = unpack_state(state, bool(self.state_dim))
        rows, batched, again = self.spec.pack_next(obs, seen, episode_start, action_masks)
        hidden = self.initial_state(len(rows)) if memory is None else torch.as_tensor(memory, device=self._device)
        for name, given in (("state", hidden), ("episode_start", episode_start)):
            if given is not None and np.shape(given)[:1] not in ((len(rows),), *([()] * (len(rows) == 1))):
                raise InputError(f"{self.spec.name}: {name} is of shape {tuple(np.shape(given))} for {len(rows)} "
                                 f"observation{'s' * (len(rows) > 1)}; give one for each")
        if hidden is not None and episode_start is not None:
            starts = torch.as_tensor(np.atleast_1d(episode_start), dtype=torch.float32, device=self._device)
            hidden = hidden * (1 - starts).unsqueeze(1)
        self._check_numbers(rows)
        tensor = torch.as_tensor(rows, device=self._device)
        actions, _, _, hidden = self.act(tensor, hidden, deterministic=deterministic)
        result = self.spec.action.to_env(actions.cpu().numpy())
        known = (None if hidden is None else hidden.cpu().numpy(), rows if again else None)
        return (result if batched else first_of(result)), tuple(x for x in known if x is not None) or None

    def _check_numbers(self, rows: Array) -> None:
        """InputError for an observation that is NaN, as the action would be. An infinite one is like a large one."""
        for leaf in (f for f in self.spec.obs_fields if f.dtype.kind == "f"):
            if np.isnan(leaf.of(rows)).any():
                part = f" of {leaf.name!r}" if len(self.spec.obs_fields) > 1 else ""
                column = int(np.argwhere(np.isnan(leaf.of(rows)).reshape(len(rows), leaf.size))[0][1])
                raise InputError(f"{self.spec.name}: an observation is NaN in column {column}{part}; a policy cannot "
                                 "act on it")

    def _encode(self, obs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features, and the memory's state after them; without a memory `state` as it is."""
        if self.memory is None:
            return self.encoder.observe(self.flatten, obs), state
        seen, allowed = self._seen(obs)
        state = state[:, :self.memory_dim]
        after = remember(self.memory, seen, state)
        after = self._remember(seen, state) if after is None else after
        hidden = after[:, :self.memory.hidden_size]
        return torch.cat((hidden, *allowed), 1), after

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device
