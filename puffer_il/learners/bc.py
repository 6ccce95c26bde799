"""Behaviour cloning: maximum likelihood of the demonstrated actions (Pomerleau 1991).

    L = mean w · loss(π(·|s), a) − ent_coef · entropy,  early stop on held-out episodes, the best weights are kept
    loss: −log π(a|s), a squared distance, or that of a flow; w: the demonstrations' own weights, the rarity of a, or 1
    a: an action, or a chunk of h of them as far as the episode goes, the loss of which is divided by h
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import Config, DemosConfig, PolicyConfig, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos import spread
from puffer_il.demos.build import follows_on
from puffer_il.demos.dataset import Demos, kinds_of
from puffer_il.demos.rows import blocks, exceeds_memory
from puffer_il.learners.base import About, Learner
from puffer_il.learners.common.cloning import (
    CloningLoss,
    clone_epoch,
    clone_score,
    clone_sequences,
    clone_spread,
    score_sequences,
)
from puffer_il.learners.common.demo_rows import DemoRows, DemoSequences, Examples, load_rows
from puffer_il.learners.common.graphed_cloning import graphed_cloning
from puffer_il.learners.common.inputs import LEAST_PASS, PASS_NUMBERS, PASS_ROWS
from puffer_il.learners.registry import register
from puffer_il.nn import (
    Categorical,
    FlatAdam,
    Flow,
    FusedPolicy,
    Gaussian,
    Mixture,
    Policy,
    categorical_loss,
    fused,
    make_shift,
    masked_mean,
    rarity,
    total,
)

WINDOW_RUNS = 256
HEAD_TIMES = 9  # as long as the kernels torch's cloning takes, measured by bench cliffs
ROWS_TIMES = 8  # the same for rows that the kernels do not read, measured by bench rows
LEAST_VARIANCE = 1e-6  # of an action about the policy's mean, where the squared distance has gone to zero


@dataclass(frozen=True)
class BCConfig:
    loss: str = setting("nll", "negative log-likelihood, or squared distance: of the mean, in units of half the range, "
                        "or of the probabilities where actions are discrete (Brier score)", choices=("nll", "mse"))
    label_smoothing: float = setting(0.0, "share of a discrete label that is spread over all actions", low=0, high=1)
    class_balanced: bool = setting(False, "weigh rows by how rare their discrete action is (each dimension by itself)")
    learning_rate: float = setting(1e-3, "Adam's step size", low=0)
    batch_size: int = setting(256, "transitions per minibatch (with a memory, those of its sequences)", low=1)
    weight_decay: float = setting(1e-4, "decoupled weight decay (AdamW)", low=0)
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    validation: float = setting(0.1, "share of the episodes held out (of the rows if there are few); 0 holds out none",
                                low=0, high=0.9)
    patience: int = setting(20, "stop after this many epochs without a better validation loss; 0 never stops", low=0)
    max_grad_norm: float = setting(1.0, "clip the gradient's norm; 0 does not clip", low=0)
    sequence_length: int = setting(16, "steps of a sequence that an LSTM or GRU is trained on", low=1)
    window: int = setting(0, "rows that are shuffled together, in runs from all over the demonstrations; 0 shuffles "
                             "all. Set it, to 250,000 say, where they are larger than memory", low=0)
    random_shift: int = setting(0, "pixels by which pictures are shifted at random each time they are learned from, "
                                   "edges repeated (DrQ: 4); 0 does not", low=0)


@register("bc")
class BC(Learner):
    """Supervised learning of the demonstrated actions; one `update` is one epoch."""

    section = BCConfig
    config: BCConfig
    needs_rollouts = False
    about = About("Pomerleau 1991, doi:10.1162/neco.1991.3.1.88", "many demonstrations, or no environment to practise "
                  "in: seconds of supervised learning, but it drifts where they are few",
                  heads=("plain", "mixture", "flow"), chunks=True)
    promised_metrics = ("bc/train_nll", "bc/val_nll", "bc/accuracy", "losses/entropy", "losses/grad_norm")
    saved = ("policy", "optimizer", "rng", "best_weights", "best_loss", "epochs_without_gain", "done")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int,
                 policy: Policy | None = None) -> None:
        """No `demos` where another learner holds this one and hands over its rows by `take`; `policy` is the one to
        train, if there is one already."""
        super().__init__(spec, demos, config, device, seed)
        _check(self.config, config.policy, config.demos, spec)
        self.policy = policy if policy is not None else Policy(spec, config.policy).to(device)
        self.optimizer = FlatAdam(self.policy.actor_parameters(), learning_rate=self.config.learning_rate,
                                  weight_decay=self.config.weight_decay, max_grad_norm=self.config.max_grad_norm)
        self.rng = np.random.default_rng(seed)
        self.shift = make_shift("bc.random_shift", self.config.random_shift, spec, seed)
        self.graphed = graphed_cloning(config, self.policy, self.optimizer, self.shift, device, self.notices)
        self.epochs_without_gain, self.best_loss = 0, math.inf
        self.best_weights: dict[str, Tensor] = {}
        if demos is not None:
            assert demos.actions is not None
            if config.policy.chunk > 1 and not follows_on(demos):
                raise InputError(f"demos {demos.source}: a chunk learns from consecutive steps, and rows are missing "
                                 "(they are subsampled); give whole episodes, or set policy.chunk to 1")
            if exceeds_memory(demos.obs) and not self.config.window:
                size = f"{demos.obs.nbytes / 1e9:.0f} GB"
                self.notices.append(f"the demonstrations, {size}, are more than the memory that is free, and each row "
                                    "is read from the disk by itself: set bc.window, to 250000 say")
            episodes = np.repeat(np.arange(demos.num_episodes), demos.lengths)
            self.take(demos.obs, demos.actions, episodes, self._split(demos), demos.weights)
            self.policy.encoder.update_norm(*self.train.moments(self.policy.flatten))

    def take(self, obs: Array, actions: Array, episodes: Array, held_out: Array, weights: Array | None = None) -> None:
        """Learn from these rows from now on, and measure progress from scratch.

        obs (n, *obs_shape), actions (n, dim), episodes (n,) whole numbers: rows of an episode follow one another;
        held_out (n,) bool: rows to validate on; weights (n,) none negative, or None
        """
        mask = self.policy.spec.mask if self.policy.chunks.size > 1 else None
        allowed = None if mask is None else np.concatenate(
            [mask.of(obs[part]).reshape(part.stop - part.start, -1) != 0 for part in blocks(obs)])
        self.train, self.held_out = (
            load_rows(obs, actions, weights, episodes,
                      self.config.sequence_length if self.policy.memory is not None else 0, self.device,
                      self.policy.chunks.size, allowed, np.flatnonzero(rows))
            for rows in (~held_out, held_out))
        self.pass_rows = max(LEAST_PASS, min(PASS_ROWS, PASS_NUMBERS // self.policy.flatten.dim))
        if isinstance(self.policy.dist, Flow):
            self.policy.dist.measure(self.train.chosen_actions(), self.train.chosen_counts())
        self.steps_per_update = len(self.train)
        self.balance = rarity(self.train.chosen_actions(), self.train.chosen_counts(),
                              self.policy.dist.nvec) if self.config.class_balanced else None
        self.plain = self.config.loss == "nll" and not self.config.label_smoothing and self.balance is None
        self.loss = CloningLoss(self.config.ent_coef, self.config.label_smoothing, self.config.loss == "mse",
                                None if self.balance is None else torch.cat(self.balance))
        self.epochs_without_gain, self.best_loss, self.done = 0, math.inf, False

    def update(self, buffer: Any, progress: float) -> Metrics:
        losses = self._epoch()
        with torch.no_grad():
            if self.config.loss == "mse" and isinstance(self.policy.dist, Gaussian):
                self._fit_spread(self.policy.dist)
            checked = self.held_out if len(self.held_out) else self.train
            objective, nll, accuracy = (float(x) for x in self._score(checked))
        self._keep_best(objective)
        if isinstance(self.policy.dist, Flow):  # which tells neither likelihood nor entropy
            return {"bc/train_loss": losses[0], "bc/val_loss": objective, "bc/accuracy": accuracy,
                    "losses/grad_norm": losses[2]}
        return {"bc/train_nll": losses[0], "bc/val_nll": nll, "bc/accuracy": accuracy, "losses/entropy": losses[1],
                "losses/grad_norm": losses[2]} | ({} if self.plain else {"bc/val_loss": objective})

    def finish(self) -> None:
        """Go back to the weights of the best validation loss."""
        if self.best_weights:
            self.policy.load_state_dict(self.best_weights)

    def fit(self, epochs: int) -> Metrics:
        """Up to `epochs` epochs, then the best weights; the report of the last one. For a learner that holds this
        one."""
        metrics: Metrics = {}
        for _ in range(epochs):
            metrics = self.update(None, 0.0)
            if self.done:
                break
        self.finish()
        return metrics

    @torch.no_grad()
    def errors(self) -> tuple[Array, Array, Array]:
        """Modes and labels (n, dim) of the held-out rows (of those learned from if there are none), and their
        observations (n, *obs_shape)."""
        data = self.held_out if len(self.held_out) else self.train
        data.refresh(self.policy)
        modes, actions = [], []
        for index in data.parts(self.pass_rows):
            params, shown, *_ = data.evaluate(self.policy, index)
            modes.append(self.policy.dist.mode(params))
            actions.append(shown)
        seen = data.chosen_obs()
        return torch.cat(modes).cpu().numpy(), torch.cat(actions).cpu().numpy(), seen.cpu().numpy()

    def _epoch(self) -> list[float]:
        """One pass over the training rows; the means of negative log-likelihood, entropy and gradient norm."""
        parts: list[Array] = []
        counts: list[int] = []
        for order in self._orders():
            means = self._in_kernels(order, first=not parts)
            if means is None:
                if not parts:
                    self._begin_epoch()
                means = self._in_torch(order)
            parts.append(means)
            counts.append(-(-len(order) // self.config.batch_size))
        return (parts[0] if len(parts) == 1 else np.average(parts, axis=0, weights=counts)).tolist()

    def _in_kernels(self, order: Array, first: bool) -> Array | None:
        """The means of `_epoch` over minibatches of the training rows in this order, None where C does not cover it.
        Before the `first` order of an epoch, what precedes sequences is brought up to date."""
        data, size = self.train, self.config.batch_size
        if not self._covered(data):
            return None
        if isinstance(data, DemoSequences):
            if first:
                data.refresh(self.policy)
            return clone_sequences(self.policy, data.shown(), order, size, self.loss, self.optimizer)
        return clone_epoch(self.policy, data.obs, data.actions, data.numbers(order), size, self.loss, self.optimizer)

    def _tell(self) -> None:
        """A notice of what torch's cloning costs, where another key would leave it to the kernels."""
        dist, policy, flatten = self.policy.dist, self.policy, self.policy.flatten
        if not (fused.enabled() and fused.readable(policy)) or flatten.images:
            return
        if not flatten.covered:
            what = "action masks" if flatten.spec.mask is not None else (
                "parts of several kinds" if flatten.spec.structured else f"{flatten.dim:,} numbers")
            fused.fall_back(f"cloning of observations with {what}", ROWS_TIMES)
        elif not policy.plain:
            what = "a flow" if isinstance(dist, Flow) else "a mixture" if isinstance(dist, Mixture) else "chunks"
            fused.fall_back(f"cloning of {what}", HEAD_TIMES)

    def _in_torch(self, order: Array) -> Array:
        self._tell()
        size = self.config.batch_size
        batches = [order[i:i + size] for i in range(0, len(order), size)]
        return torch.stack([self._step(index) for index in batches]).mean(0).cpu().numpy()

    def _begin_epoch(self) -> None:
        self.train.refresh(self.policy)
        self.optimizer.prepare()
        if self.shift is not None:
            self.shift.begin(int(self.rng.integers(1 << 31)))
        self.noise = self._noise(int(self.rng.integers(1 << 31))) if isinstance(self.policy.dist, Flow) else None

    def _orders(self) -> Iterator[Array]:
        """Numbers of an epoch's rows in the order in which they are learned from: all of them, or a window at a time of
        WINDOW_RUNS runs from all over, the next of which are read ahead."""
        drawn, size = self._drawn(), -(-self.config.window // self.train.steps)
        if not 0 < size < len(drawn):
            yield self.rng.permutation(drawn)
            return
        drawn.sort()
        run = max(1, size // WINDOW_RUNS)
        runs = [drawn[i:i + run] for i in range(0, len(drawn), run)]
        order = [runs[k] for k in self.rng.permutation(len(runs))]
        windows = [order[i:i + size // run] for i in range(0, len(order), size // run)]
        for k, window in enumerate(windows):
            for rows in [*(window if k == 0 else ()), *(windows[k + 1] if k + 1 < len(windows) else ())]:
                self.train.read_ahead(rows)
            yield self.rng.permutation(np.concatenate(window))
            self.train.let_go()  # all of it: the system has mapped more than what was asked for

    def _drawn(self) -> Array:
        """(n,) numbers of an epoch's rows: each once or, of weighted ones, as often as its weight says."""
        count, weights = len(self.train), self.train.example_weights()
        if weights is None or type(self.train) is not DemoRows:
            return np.arange(count)
        # Where few rows count, weighted losses would waste most of a minibatch.
        order = self.rng.permutation(count)  # weights that alternate must not fall in with the even steps of `spread`
        return order[spread(weights.cpu().numpy()[order], count, self.rng.random())]

    def _covered(self, data: DemoRows) -> bool:
        """True for what the C kernels cover: single actions. They weigh a row's entropy as its loss."""
        if not self.policy.plain:
            return False
        if isinstance(data, DemoSequences):
            uneven = data.weights is not None and self.config.ent_coef != 0
            return not uneven and FusedPolicy.of(self.policy, recurrent=True) is not None
        return type(data) is DemoRows

    def _step(self, index: Array) -> Tensor:
        stats = None if self.graphed is None else self.graphed(self._learn, self.train, index, self.balance or ())
        return self._learn(self.train.evaluate(self.policy, index, self.shift)) if stats is None else stats

    def _learn(self, examples: Examples) -> Tensor:
        """A step on a minibatch; the means of negative log-likelihood and entropy, and the gradient's norm."""
        params, actions, weight, counts = examples
        weight = None if type(self.train) is DemoRows else weight  # by which single rows were drawn
        objective, logprobs, entropy = self._losses(params, actions, weight, counts)
        mean_entropy = entropy.mean()
        self.optimizer.zero_grad()
        (objective.mean() - self.config.ent_coef * mean_entropy).backward()
        return torch.stack((-logprobs.detach().mean(), mean_entropy.detach(), self.optimizer.step()))

    def _losses(self, params: Tensor, actions: Tensor, weight: Tensor | None,
                counts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row, per step of its chunk: its weighted loss, its log-likelihood and its entropy; of a flow its loss
        in place of them."""
        cfg, dist, size = self.config, self.policy.dist, self.policy.chunks.size
        if isinstance(dist, Flow):
            assert self.noise is not None
            loss = dist.loss(params, actions, counts, self.noise) / size
            return loss if weight is None else weight * loss, -loss, torch.zeros_like(loss)
        logprobs, entropy = (x / size for x in dist.log_prob_entropy(params, actions, counts))
        if self.plain:
            loss = -logprobs
        elif isinstance(dist, Categorical):
            loss = categorical_loss(params, actions, dist.nvec, cfg.loss, cfg.label_smoothing, self.balance,
                                    counts) / size
        else:
            loss = total(((dist.mode(params) - actions) / dist.scale).square(), counts) / size
        return loss if weight is None else weight * loss, logprobs, entropy

    def _noise(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)

    def _score(self, data: DemoRows) -> tuple[Any, Any, Any]:
        """Mean loss, mean negative log-likelihood, and the share of actions that the policy's mode gets right (for
        continuous actions the share of their variance that it explains)."""
        discrete = self.policy.spec.action.discrete
        if self._covered(data):
            if isinstance(data, DemoSequences):
                data.refresh(self.policy)
                means = score_sequences(self.policy, data.shown(), self.loss)
            else:
                means = clone_score(self.policy, data.obs, data.actions, data.index, data.weights, self.loss,
                                    data.mapped_obs)
                data.let_go()
            if means is not None:
                return means[0], means[1], means[3] if discrete else data.explained(means[3])
        data.refresh(self.policy)
        self.noise = self._noise(0)  # always the same, so that epochs can be compared
        rows = []
        for index in data.parts(self.pass_rows):
            params, actions, weight, counts = data.evaluate(self.policy, index)
            objective, logprobs, _ = self._losses(params, actions, weight, counts)
            mode = self.policy.dist.mode(params)
            met = (((mode == actions) | (False if counts is None else ~counts)).all(-1).float() if discrete else
                   total((mode - actions).square(), counts))
            rows.append((objective, logprobs, met))
        objective, logprobs, met = (torch.cat(column).mean() for column in zip(*rows, strict=True))
        return objective, -logprobs, met if discrete else data.explained(float(met))

    def _fit_spread(self, dist: Gaussian) -> None:
        """The likeliest standard deviations about the present means: the squared distance does not learn them."""
        variance = self._spread(dist)
        dist.log_std.copy_(0.5 * variance.clamp_min(LEAST_VARIANCE).log())

    def _spread(self, dist: Gaussian) -> Tensor:
        """(dim,) weighted mean squares of what actions are off the means, in units of half the range."""
        if self._covered(self.train) and not (dist.squash or dist.state_std):
            squares = clone_spread(self.policy, self.train.obs, self.train.actions, self.train.index,
                                   self.train.weights, self.train.mapped_obs)
            self.train.let_go()
            if squares is not None:
                return squares
        self.train.refresh(self.policy)
        parts = []
        for index in self.train.parts(self.pass_rows):
            params, actions, weight, counts = self.train.evaluate(self.policy, index)
            parts.append(((dist.unit(actions) - dist.moments(params)[0]).square(), weight, counts))
        square, weight, counts = (None if column[0] is None else torch.cat(column)
                                  for column in zip(*parts, strict=True))
        assert square is not None
        if counts is None:
            return torch.stack([masked_mean(x, weight) for x in square.T])
        weights = counts if weight is None else counts * weight[:, None]
        return torch.stack([masked_mean(x, w.float()) for x, w in zip(square.T, weights.T, strict=True)])

    def _keep_best(self, loss: float) -> None:
        if loss < self.best_loss:
            self.best_loss, self.epochs_without_gain = loss, 0
            self.best_weights = {k: v.detach().clone() for k, v in self.policy.state_dict().items()}
        else:
            self.epochs_without_gain += 1
        self.done = 0 < self.config.patience <= self.epochs_without_gain

    def _split(self, demos: Demos) -> Array:
        """(n,) bool: rows to validate on. Whole episodes are held out: neighbouring rows are near copies."""
        share, episodes, held_out = self.config.validation, demos.num_episodes, np.zeros(len(demos), bool)
        if share * len(demos) < 1:
            return held_out
        count = round(share * episodes)
        if count == 0 and self.policy.memory is None and self.policy.chunks.size == 1:
            held_out[self.rng.permutation(len(demos))[:int(share * len(demos))]] = True
        elif episodes > 1:
            chosen = self.rng.permutation(episodes)[:max(1, count)]
            kinds = kinds_of(demos)
            apart = np.isin(kinds, kinds[chosen])  # with their copies, of which a validation would tell nothing
            held_out = np.repeat(np.isin(np.arange(episodes), chosen) if apart.all() else apart, demos.lengths)
        return held_out


def _check(config: BCConfig, policy: PolicyConfig, demos: DemosConfig, spec: EnvSpec) -> None:
    """InputError for options that do not go together."""
    if demos.subsample > 1 and (policy.memory or policy.chunk > 1):
        who, key = (("an LSTM", "policy.lstm to 0") if policy.lstm else ("a GRU", "policy.gru to 0") if policy.gru else
                    ("a chunk", "policy.chunk to 1"))
        raise InputError(f"demos.subsample = {demos.subsample}: {who} learns from consecutive steps; "
                         f"set it to 1, or {key}")
    if policy.head != "plain" and config.loss != "nll":
        raise InputError(f"bc.loss = {config.loss!r}: a {policy.head} has a loss of its own; leave it out")
    if policy.head == "flow" and config.ent_coef:
        raise InputError(f"bc.ent_coef = {config.ent_coef}: the entropy of a flow is not known; set it to 0")
    if not spec.action.discrete and (config.label_smoothing or config.class_balanced):
        key = "bc.class_balanced = true" if config.class_balanced else f"bc.label_smoothing = {config.label_smoothing}"
        raise InputError(f"{key}: {spec.name} has continuous actions, which have no classes; leave it out")
