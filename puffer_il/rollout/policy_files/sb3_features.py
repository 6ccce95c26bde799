"""What a policy of Stable-Baselines3 does with an observation before its own layers: its features extractors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from puffer_il.rollout.policy_files.networks import Refuse, Weights, nature_cnn, under
from puffer_il.rollout.policy_files.sb3_spaces import Space, prepare


@dataclass
class Features:
    """n observations in the environment's own form → (n, size) float32."""

    space: Space
    parts: dict[str, nn.Module]  # one for each member of a dict, else one under ""
    size: int
    scale_images: bool

    @property
    def module(self) -> nn.Module:
        return nn.ModuleList(self.parts.values())

    def __call__(self, obs: Any) -> Tensor:
        if self.space.kind != "Dict":
            return self.parts[""](prepare(self.space, obs, self.scale_images))
        return torch.cat([part(prepare(self.space.spaces[key], obs[key], self.scale_images))
                          for key, part in self.parts.items()], 1)


def features(space: Space, weights: Weights, scale_images: bool, refuse: Refuse) -> Features:
    """The extractor whose weights these are: convolutions where there are any, else the flat numbers."""
    members = space.spaces if space.kind == "Dict" else {"": space}
    parts: dict[str, nn.Module] = {}
    size, used = 0, 0
    for key, one in members.items():
        own = under(weights, f"extractors.{key}." if key else "")
        if any(name.startswith("cnn.") for name in own):
            parts[key], width = nature_cnn(own, refuse)
            used += len(own)
        else:
            parts[key], width = nn.Flatten(), one.size
        size += width
    if used != len(weights):
        refuse("has a features extractor that is none of Stable-Baselines3's; record its demonstrations with "
               "Stable-Baselines3 itself")
    return Features(space, parts, size, scale_images)
