"""Policies in other people's files, read without unpickling: the GAIL paper's npz, Stable-Baselines3's zip."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
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


@dataclass
class FilePolicy:
    """logits or mean = f((obs − obs_mean) / obs_std); `layers` are (weight (in, out), bias (out,)), the last linear."""

    source: str  # the file
    action: ActionSpec
    layers: list[tuple[Array, Array]]
    activation: str
    obs_mean: Array | float = 0.0
    obs_std: Array | float = 1.0
    log_std: Array | None = None  # (dim,), continuous actions only
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    memoryless = True

    def predict(self, obs: Array, state: None = None, episode_start: Array | None = None,
                deterministic: bool = False) -> tuple[Array, None]:
        """Stable-Baselines3's interface: (n, dim) for observations (n, *obs_shape). InputError where actions are to be
        sampled but no standard deviation is known."""
        x, action = self.outputs(obs), self.action
        if not (deterministic or action.discrete):
            if self.log_std is None:
                raise InputError(f"policy {self.source}: has no standard deviation per action; use its deterministic "
                                 "actions")
            x = x + np.exp(self.log_std) * self.rng.standard_normal(x.shape)
        if not action.discrete:
            return x.astype(np.float32), None
        if not deterministic:
            x = x + self.rng.gumbel(size=x.shape)  # its argmax is a sample of the softmax
        blocks = np.split(x, np.cumsum(action.nvec)[:-1], axis=1)
        return np.stack([block.argmax(1) for block in blocks], 1).astype(np.int32), None

    @property
    def num_parameters(self) -> int:
        return sum(weight.size + bias.size for weight, bias in self.layers)

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def outputs(self, obs: Array) -> Array:
        """(n, logits or means)."""
        x = (obs.reshape(len(obs), -1).astype(np.float32) - self.obs_mean) / self.obs_std
        for weight, bias in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = self.layers[-1]
        return x @ weight + bias


def read_policy(path: Path | str, spec: EnvSpec) -> FilePolicy:
    """The policy in a file, which acts in environments of `spec`.

    Knows the npz of the GAIL paper's experts (W0 b0 … Wout bout obs_mean obs_std act [logstd]) and a model.zip of
    Stable-Baselines3 whose policy is an actor-critic MlpPolicy (PPO, A2C); statistics of VecNormalize are not in that
    file. Raises InputError for anything else, and where its inputs or outputs are not those of `spec`.
    """
    with Npz(path, "policy", WANTED) as file:
        if "policy.pth" in file:
            policy = _stable_baselines(file, spec.action)
        elif "Wout" in file:
            policy = _gail_paper(file, spec.action)
        else:
            file.refuse(f"holds {file.listing()}, no policy we know; {WANTED}")
        _check_shapes(file, policy, spec)
    return policy


def _gail_paper(file: Npz, action: ActionSpec) -> FilePolicy:
    depth = sum(re.fullmatch(r"W\d+", key) is not None for key in file.keys)
    names = [*map(str, range(depth)), "out"]
    kind = float(file["act"].reshape(-1)[0])
    if kind not in (0.0, 1.0):
        file.refuse(f"act is {kind}; known are 0 (tanh) and 1 (leaky ReLU)")
    log_std = file.get("logstd")
    return FilePolicy(file.source, action, [(file[f"W{name}"], file[f"b{name}"]) for name in names],
                      PAPER_ACTIVATIONS[int(kind)], file["obs_mean"], file["obs_std"],
                      None if log_std is None else log_std.reshape(-1))


def _stable_baselines(file: Npz, action: ActionSpec) -> FilePolicy:
    import torch  # late: `puffer-il demos` must not wait for it

    try:
        weights = torch.load(io.BytesIO(file.raw("policy.pth")), map_location="cpu", weights_only=True)
        arrays = {key: value.float().numpy() for key, value in weights.items()}
        options = json.loads(file.raw("data"))["policy_kwargs"]
    except Exception as error:  # torch raises whatever the damage leads to
        file.refuse(f"is not a complete Stable-Baselines3 model ({type(error).__name__}); save it again")
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
    return FilePolicy(file.source, action, layers, activation,
                      log_std=log_std if log_std is not None and log_std.ndim == 1 else None)


def _check_shapes(file: Npz, policy: FilePolicy, spec: EnvSpec) -> None:
    """Layers must fit one another, the observation and the action."""
    action = spec.action
    width, outputs = int(np.prod(spec.obs_shape)), sum(action.nvec) if action.discrete else action.dim
    for weight, bias in policy.layers:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            file.refuse(f"has a layer of shape {weight.shape} for {width} inputs; use a policy of {spec.name}")
        width = weight.shape[1]
    if width != outputs:
        file.refuse(f"has {width} outputs but {spec.name} needs {outputs}; use a policy of this environment")
    inputs = len(policy.layers[0][0])
    for name, statistic, size in (("obs_mean", policy.obs_mean, inputs), ("obs_std", policy.obs_std, inputs),
                                  ("logstd", policy.log_std, outputs)):
        if isinstance(statistic, np.ndarray) and statistic.shape != (size,):
            file.refuse(f"{name} has shape {statistic.shape}, not ({size},); use a policy of {spec.name}")
