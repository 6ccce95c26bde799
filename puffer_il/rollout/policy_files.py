"""Expert policies from other people's files, without unpickling: the GAIL paper's npz, Stable-Baselines3's zip."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.collect import Act
from puffer_il.demos.npz import Npz

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "LeakyReLU": lambda x: np.maximum(x, 0.01 * x),
}
PAPER_ACTIVATIONS = ("Tanh", "LeakyReLU")  # what `act` = 0 and 1 mean in the GAIL paper's files
WANTED = ("give the model.zip of a Stable-Baselines3 policy, an .npz of the GAIL paper (the arrays W0 b0 … Wout bout "
          "obs_mean obs_std act), or the run directory of a policy of ours")
SB3_PARTS = re.compile(r"(mlp_extractor\.(policy|value)_net\.\d+|(action|value)_net)\.(weight|bias)|log_std")


@dataclass(frozen=True)
class Mlp:
    """logits or mean = f((obs − obs_mean) / obs_std); `layers` are (weight (in, out), bias (out,)), the last linear."""

    layers: list[tuple[Array, Array]]
    activation: str
    obs_mean: Array | float = 0.0
    obs_std: Array | float = 1.0
    log_std: Array | None = None  # (dim,), continuous actions only

    def __call__(self, obs: Array) -> Array:
        x = (obs.reshape(len(obs), -1).astype(np.float32) - self.obs_mean) / self.obs_std
        for weight, bias in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = self.layers[-1]
        return x @ weight + bias


def load_expert(path: Path | str, spec: EnvSpec, deterministic: bool = True, seed: int = 0) -> Act:
    """`act(obs (n, *obs_shape), episode_start (n,)) -> actions (n, dim)` of the policy in a file.

    Knows the npz of the GAIL paper's experts (W0 b0 … Wout bout obs_mean obs_std act [logstd]) and a model.zip of
    Stable-Baselines3 whose policy is an actor-critic MlpPolicy (PPO, A2C); statistics of VecNormalize are not in that
    file. `deterministic` acts by the mode, otherwise actions are sampled from `seed`. Raises InputError for anything
    else, and where the policy's inputs or outputs are not those of `spec`.
    """
    with Npz(path, "expert", WANTED) as file:
        if "policy.pth" in file:
            policy = _stable_baselines(file)
        elif "Wout" in file:
            policy = _gail_paper(file)
        else:
            file.refuse(f"holds {file.listing()}, no policy we know; {WANTED}")
        _check_shapes(file, policy, spec)
        if not (deterministic or spec.action.discrete or policy.log_std is not None):
            file.refuse("has no standard deviation per action; use its deterministic actions")
    rng = None if deterministic else np.random.default_rng(seed)
    choose = _choose_discrete if spec.action.discrete else _choose_continuous
    return lambda obs, episode_start: choose(policy, obs, spec.action, rng)


def _choose_discrete(policy: Mlp, obs: Array, action: ActionSpec, rng: np.random.Generator | None) -> Array:
    logits = policy(obs)
    if rng is not None:
        logits = logits + rng.gumbel(size=logits.shape)  # its argmax is a sample of the softmax
    blocks = np.split(logits, np.cumsum(action.nvec)[:-1], axis=1)
    return np.stack([block.argmax(1) for block in blocks], 1).astype(np.int32)


def _choose_continuous(policy: Mlp, obs: Array, action: ActionSpec, rng: np.random.Generator | None) -> Array:
    mean = policy(obs)
    if rng is not None and policy.log_std is not None:
        mean = mean + np.exp(policy.log_std) * rng.standard_normal(mean.shape)
    return mean.astype(np.float32)


def _gail_paper(file: Npz) -> Mlp:
    depth = sum(re.fullmatch(r"W\d+", key) is not None for key in file.keys)
    names = [*map(str, range(depth)), "out"]
    kind = float(file["act"].reshape(-1)[0])
    if kind not in (0.0, 1.0):
        file.refuse(f"act is {kind}; known are 0 (tanh) and 1 (leaky ReLU)")
    log_std = file.get("logstd")
    return Mlp([(file[f"W{name}"], file[f"b{name}"]) for name in names], PAPER_ACTIVATIONS[int(kind)],
               file["obs_mean"], file["obs_std"], None if log_std is None else log_std.reshape(-1))


def _stable_baselines(file: Npz) -> Mlp:
    import torch  # late: `puffer-il demos` must not wait for it

    try:
        weights = torch.load(io.BytesIO(file.raw("policy.pth")), map_location="cpu", weights_only=True)
        arrays = {key: value.float().numpy() for key, value in weights.items()}
        options = json.loads(file.raw("data"))["policy_kwargs"]
    except Exception as error:  # torch raises whatever the damage leads to
        file.refuse(f"is no whole Stable-Baselines3 model ({type(error).__name__}); save it again")
    other = [key for key in arrays if not SB3_PARTS.fullmatch(key)]
    if other or "action_net.weight" not in arrays:
        file.refuse(f"holds {other[0] if other else 'no action_net'}; only an actor-critic MlpPolicy (PPO, A2C) can be "
                    "read, record its demonstrations with Stable-Baselines3 itself")
    activation = str(options.get("activation_fn", "torch.nn.modules.activation.Tanh'>")).rstrip("'>").rpartition(".")[2]
    if activation not in ACTIVATIONS:
        file.refuse(f"has activation {activation}; known are {', '.join(ACTIVATIONS)}")
    hidden = sorted((k for k in arrays if re.fullmatch(r"mlp_extractor\.policy_net\.\d+\.weight", k)),
                    key=lambda k: int(k.split(".")[2]))
    layers = [(arrays[k].T, arrays[k.removesuffix("weight") + "bias"]) for k in [*hidden, "action_net.weight"]]
    log_std = arrays.get("log_std")
    return Mlp(layers, activation, log_std=log_std if log_std is not None and log_std.ndim == 1 else None)


def _check_shapes(file: Npz, policy: Mlp, spec: EnvSpec) -> None:
    """Layers must fit one another, the observation and the action."""
    action = spec.action
    width, outputs = int(np.prod(spec.obs_shape)), sum(action.nvec) if action.discrete else action.dim
    for weight, bias in policy.layers:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            file.refuse(f"has a layer {weight.shape} where {width} values come in; use an expert of {spec.name}")
        width = weight.shape[1]
    if width != outputs:
        file.refuse(f"puts out {width} numbers but {spec.name} needs {outputs}; use an expert of this environment")
    for name, statistic, size in (("obs_mean", policy.obs_mean, len(policy.layers[0][0])),
                                  ("obs_std", policy.obs_std, len(policy.layers[0][0])),
                                  ("logstd", policy.log_std, outputs)):
        if isinstance(statistic, np.ndarray) and statistic.shape != (size,):
            file.refuse(f"{name} has shape {statistic.shape}, not ({size},); use an expert of {spec.name}")
