"""The file of a Stable-Baselines3 model: its JSON, its spaces and its weights, from which the policies are built."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from torch import nn

from puffer_il.core.spec import EnvSpec
from puffer_il.demos.npz import Npz
from puffer_il.rollout.policy_files.file_policy import Squashed, whole_range
from puffer_il.rollout.policy_files.networks import ACTIVATIONS, linear, load_weights, mlp, under
from puffer_il.rollout.policy_files.sb3_features import Features, features
from puffer_il.rollout.policy_files.sb3_spaces import read_space

RECORD = "record its demonstrations with Stable-Baselines3 itself"
TORCH = "torch.nn.modules.activation."
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")


class Model:
    """The parts of the file that the kinds of policies are built from."""

    def __init__(self, file: Npz, spec: EnvSpec) -> None:
        self.file, self.spec, self.refuse = file, spec, file.refuse
        try:
            data = json.loads(file.raw("data"))
            self.options: dict[str, Any] = data["policy_kwargs"]
            self.obs, self.action = read_space(data["observation_space"]), read_space(data["action_space"])
            policy = data["policy_class"]
            self.module, self.name = policy["__module__"], str(policy.get("__init__", ""))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            file.refuse(f"is not a complete Stable-Baselines3 model ({type(error).__name__}); save it again")
        self.data = data
        self.weights = {key: value.float() for key, value in load_weights(io.BytesIO(file.raw("policy.pth")),
                                                                          self._damaged).items()}
        self.fits = f"use a policy of {spec.name}"

    def _damaged(self, what: str) -> None:
        self.refuse("is not a complete Stable-Baselines3 model: its weights cannot be read; save it again")

    def option(self, name: str, default: Any) -> Any:
        return self.options.get(name, default)

    def activation(self, default: str) -> type[nn.Module]:
        given = str(self.option("activation_fn", f"<class '{TORCH}{default}'>"))
        name = given.removeprefix(f"<class '{TORCH}").removesuffix("'>")
        if name not in ACTIVATIONS:
            self.refuse(f"has activation {name.strip('<>')}; known are {', '.join(ACTIVATIONS)}; {RECORD}")
        return ACTIVATIONS[name]

    def features(self, prefix: str) -> Features:
        """What stands before the policy's own layers: an extractor of the library, or none."""
        given = str(self.option("features_extractor_class", "FlattenExtractor")).strip("<>'")
        if given.rpartition(".")[2] not in EXTRACTORS or ("." in given and "stable_baselines3." not in given):
            self.refuse(f"has a features extractor of its own ({given.rpartition('.')[2]}); {RECORD}")
        return features(self.obs, under(self.weights, prefix), self.option("normalize_images", True), self.refuse)

    def layers(self, prefix: str, inputs: int, default: str, last: bool = True, **options: Any) -> tuple[
            nn.Sequential, int]:
        return mlp(under(self.weights, prefix), inputs, self.refuse, self.activation(default), self.fits, last=last,
                   **options)

    def linear(self, prefix: str, inputs: int) -> nn.Linear:
        layer = linear(self.weights[f"{prefix}.weight"], self.weights.get(f"{prefix}.bias"))
        if layer.in_features != inputs:
            self.refuse(f"has a layer of shape {(layer.in_features, layer.out_features)} for {inputs} inputs; "
                        f"{self.fits}")
        return layer

    def squashed(self, spread: bool = False) -> Squashed:
        return Squashed(self.action.low.ravel(), self.action.high.ravel(), spread)


def check_spaces(model: Model) -> None:
    """Refuse a model whose spaces are not those of the environment."""
    _check_actions(model)
    _check_observations(model)


def _check_observations(model: Model) -> None:
    """The observations of training must be those of the environment, but for the place of an image's channels."""
    spec, space = model.spec, model.obs
    given = spec.unpack(np.zeros((1, *spec.obs_shape), spec.obs_dtype))
    members = space.spaces if space.kind == "Dict" else {"": space}
    leaves = given if isinstance(given, dict) else {"": given}
    if leaves.keys() != members.keys() or not all(isinstance(leaf, np.ndarray) for leaf in leaves.values()):
        model.refuse(f"was trained on {space}, which are not the observations of {spec.name}; {model.fits}")
    for key, one in members.items():
        array = leaves[key]
        shape = array.shape[1:]
        if one.nvec or one.kind == "MultiBinary":
            fits = int(np.prod(shape)) == max(len(one.nvec), int(np.prod(one.shape)))
        else:
            turned = one.image and len(shape) == 3 and (shape[2], *shape[:2]) == one.shape
            fits = (shape == one.shape or turned) and (array.dtype == np.uint8 or not one.image)
        if not fits or one.start:
            model.refuse(f"was trained on {one}{f' for {key!r}' if key else ''}, but {spec.name} gives {array.dtype} "
                         f"of shape {shape}; {model.fits}")


def _check_actions(model: Model) -> None:
    """The actions of training must be those of the environment."""
    spec, action, own = model.spec, model.action, model.spec.action
    numbers = action.nvec if action.kind != "MultiBinary" else (2,) * action.size
    if own.discrete:
        if action.kind == "Box" or numbers != own.nvec:
            model.refuse(f"acts in {action}, but the actions of {spec.name} are {_counts(own.nvec)}; {model.fits}")
        if action.start:
            model.refuse(f"acts in a space that begins at {action.start[0]}, but Stable-Baselines3 counts actions from "
                         f"0; {RECORD}")
        return
    if action.kind != "Box" or int(np.prod(action.shape)) != own.width:
        model.refuse(f"acts in {action}, but an action of {spec.name} is {own.width} numbers; {model.fits}")
    low, high = whole_range(own)
    if not (np.allclose(action.low.ravel(), low) and np.allclose(action.high.ravel(), high)):
        model.refuse(f"acts from {_few(action.low)} to {_few(action.high)}, but {spec.name} from {_few(low)} to "
                     f"{_few(high)}; wrap the environment as in its training")


def _counts(nvec: tuple[int, ...]) -> str:
    return f"Discrete({nvec[0]})" if len(nvec) == 1 else f"MultiDiscrete({', '.join(map(str, nvec))})"


def _few(bound: Any) -> str:
    values = np.unique(np.asarray(bound))
    return f"{values[0]:.4g}" if len(values) == 1 else f"[{', '.join(f'{v:.4g}' for v in np.ravel(bound)[:4])} …]"
