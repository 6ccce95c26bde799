"""Which actions may be taken, in logits: invalid action masking (Huang & Ontañón 2022, arXiv:2006.14171)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MASKED = -1e8  # the logit of what may not be taken: its probability is exactly 0, and p log p is no NaN, as with -inf


def mask_logits(logits: Tensor, allowed: Tensor, nvec: Sequence[int]) -> Tensor:
    """Logits (n, Σ nvec) of which those that are not `allowed` (n, Σ nvec) bool are MASKED. A choice of which nothing
    is allowed, as in the last observation of an episode, is left as it is."""
    parts = [part | ~part.any(-1, keepdim=True) for part in allowed.split(list(nvec), -1)]
    # Not torch.where, which brings a number from Python to a GPU and waits for it.
    return logits.masked_fill(~torch.cat(parts, -1), MASKED)
