"""Losses and what is reported about them: pure functions of tensors, differentiable, without a read from the device.

Rows are (n,) unless said otherwise; `weight` (n,) counts them (the valid mask as float), None counts all alike.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from puffer_il.nn.fused_pictures import without
from puffer_il.nn.masks import MASKED

MAX_LOG_RATIO = 20.0  # beyond it exp overflows, and 0 · inf in the backward pass would be NaN


def masked_mean(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ w x / Σ w, and 0 where no row counts."""
    if weight is None:
        return x.mean()
    return (x * weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def categorical_loss(logits: Tensor, actions: Tensor, nvec: Sequence[int], kind: str = "nll",
                     label_smoothing: float = 0.0, class_weights: Sequence[Tensor] | None = None,
                     counts: Tensor | None = None) -> Tensor:
    """(n,) how far the softmax of each action dimension is from the action taken, summed over dimensions.

        nll   −Σ_k q_k log p_k        mse   Σ_k (p_k − q_k)²  (Brier 1950)
        q = (1 − x) onehot(a) + x / K,  x being `label_smoothing` (Szegedy et al. 2016, arXiv:1512.00567, section 7)

    logits (n, Σ nvec), actions (n, len(nvec)) whole numbers; `class_weights[d]` (nvec[d],) multiplies a dimension's
    loss by the weight of the action taken. `counts` (n, len(nvec)) bool leaves dimensions out, None counts all.
    """
    total: Tensor | float = 0.0
    for d, part in enumerate(logits.split(list(nvec), -1)):
        action, logp = actions[:, d].long(), part.log_softmax(-1)
        target = torch.full_like(logp, label_smoothing / nvec[d])
        if label_smoothing:  # among the actions that may be taken
            free = (part > MASKED / 2).to(logp.dtype)
            target = label_smoothing * free / free.sum(1, keepdim=True)
        target.scatter_add_(1, action[:, None], torch.full_like(logp[:, :1], 1 - label_smoothing))
        loss = -(target * logp).sum(1) if kind == "nll" else (logp.exp() - target).square().sum(1)
        loss = loss if class_weights is None else class_weights[d][action] * loss
        total = total + (loss if counts is None else loss * counts[:, d])
    assert isinstance(total, Tensor)
    return total


def rarity(actions: Tensor, counts: Tensor | None, nvec: Sequence[int]) -> list[Tensor]:
    """Per dimension of discrete actions (n, len(nvec)) a weight for each choice: the inverse of its share, so that all
    which occur weigh the same together and the mean over rows is 1. `counts` as of `categorical_loss`."""
    weights = []
    for k, choices in enumerate(nvec):
        chosen = actions[:, k] if counts is None else actions[counts[:, k], k]
        found = torch.bincount(chosen.long(), minlength=choices).to(torch.float32)
        weights.append(torch.where(found > 0, len(chosen) / (found * (found > 0).sum()), 0))
    return weights


def ppo_policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_coef: float,
                    weight: Tensor | None = None) -> Tensor:
    """Clipped surrogate (Schulman et al. 2017, arXiv:1707.06347, eq. 7), to be minimised.

        L = −mean min(r A, clip(r, 1 − c, 1 + c) A),    r = π(a|s) / π_old(a|s)
    """
    ratio = _log_ratio(logprobs, old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), weight)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip_coef: float,
                       weight: Tensor | None = None) -> Tensor:
    """Squared error whose improvement is bounded: L = ½ mean max((V − R)², (V_old + clip(V − V_old, ±c) − R)²).

    `clip_coef` 0 does not clip: L = ½ mean (V − R)².
    """
    error = (values - returns).square()
    if clip_coef:
        clipped = old_values + (values - old_values).clamp(-clip_coef, clip_coef)
        error = torch.maximum(error, (clipped - returns).square())
    return 0.5 * masked_mean(error, weight)


def approx_kl(logprobs: Tensor, old_logprobs: Tensor, weight: Tensor | None = None) -> Tensor:
    """KL(π_old ‖ π) from actions of π_old: mean (r − 1) − log r, unbiased and never negative (Schulman 2020, "k3")."""
    log_ratio = _log_ratio(logprobs, old_logprobs)
    return masked_mean(log_ratio.expm1() - log_ratio, weight)


def clip_fraction(logprobs: Tensor, old_logprobs: Tensor, clip_coef: float, weight: Tensor | None = None) -> Tensor:
    """Share of the rows whose probability ratio is out of 1 ± clip_coef."""
    ratio = _log_ratio(logprobs, old_logprobs).exp()
    return masked_mean(((ratio - 1).abs() > clip_coef).to(ratio.dtype), weight)


def explained_variance(values: Tensor, returns: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − Var(R − V) / Var(R): 1 for a perfect critic, 0 for a constant one, and 0 where returns do not vary."""
    variance = _variance(returns, weight)
    share = 1 - _variance(returns - values, weight) / variance
    return torch.where(variance > 0, share, torch.zeros_like(share))


def bce_discriminator_loss(expert_logits: Tensor, policy_logits: Tensor, label_smoothing: float = 0.0,
                           expert_weight: Tensor | None = None, policy_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with expert 1 and policy 0 (Ho & Ermon 2016, arXiv:1606.03476, eq. 17; there reversed).

        L = −½ (mean_expert log D + mean_policy log(1 − D)),    D = σ(logit)

    Both sides weigh the same whatever their row counts, so that L = log 2 where D = ½. `label_smoothing` x makes the
    labels 1 − x and x.
    """
    expert = masked_mean(_cross_entropy(expert_logits, 1 - label_smoothing), expert_weight)
    policy = masked_mean(_cross_entropy(policy_logits, label_smoothing), policy_weight)
    return 0.5 * (expert + policy)


def least_squares_discriminator_loss(expert_scores: Tensor, policy_scores: Tensor, label_smoothing: float = 0.0,
                                     expert_weight: Tensor | None = None,
                                     policy_weight: Tensor | None = None) -> Tensor:
    """Squared distance from targets 1 and −1 (Mao et al. 2017, arXiv:1611.04076, eq. 2, with the targets of Peng et al.
    2021, arXiv:2104.02180), and ½ for each side as above.

        L = ½ (mean_expert (D − 1)² + mean_policy (D + 1)²),    D = the score

    L = 1 where D = 0. `label_smoothing` x makes the targets 1 − 2x and 2x − 1.
    """
    target = 1 - 2 * label_smoothing
    expert = masked_mean((expert_scores - target).square(), expert_weight)
    policy = masked_mean((policy_scores + target).square(), policy_weight)
    return 0.5 * (expert + policy)


def wasserstein_discriminator_loss(expert_scores: Tensor, policy_scores: Tensor, expert_weight: Tensor | None = None,
                                   policy_weight: Tensor | None = None) -> Tensor:
    """Critic of the Wasserstein distance, or of any moment mismatch (Arjovsky et al. 2017, arXiv:1701.07875, eq. 2;
    Swamy et al. 2021, arXiv:2103.03236), halved so that penalties weigh the same beside every loss.

        L = ½ (mean_policy f − mean_expert f),    f = the score, Lipschitz by a gradient penalty
    """
    return 0.5 * (masked_mean(policy_scores, policy_weight) - masked_mean(expert_scores, expert_weight))


def discriminator_loss(kind: str, expert_scores: Tensor, policy_scores: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of that name: "bce", "least_squares" or "wasserstein", which has no labels to smooth."""
    if kind == "bce":
        return bce_discriminator_loss(expert_scores, policy_scores, label_smoothing)
    if kind == "least_squares":
        return least_squares_discriminator_loss(expert_scores, policy_scores, label_smoothing)
    if kind == "wasserstein":
        return wasserstein_discriminator_loss(expert_scores, policy_scores)
    raise ValueError(f"discriminator loss {kind!r}: choose bce, least_squares or wasserstein")


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the discriminator's verdict on each row: −D log D − (1 − D) log(1 − D), log 2 at logit 0."""
    return torch.sigmoid(logits) * F.softplus(-logits) + torch.sigmoid(-logits) * F.softplus(logits)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], expert: Tensor, policy: Tensor,
                     kind: str = "interpolated", target: float = 1.0, one_sided: bool = True,
                     mix: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Penalty on the discriminator's gradient g(x) = ∂logit/∂x, to be weighted by the caller; and the mean of ‖g‖.

    interpolated   mean (‖g(x)‖ − target)², x = u·expert + (1 − u)·policy, u ~ U[0, 1] per row; one-sided: only where
                   the norm exceeds the target (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3 and section 4)
    zero_centred   mean ‖g(x)‖² on the expert's rows (Mescheder et al. 2018, arXiv:1801.04406, R1)

    `discriminator` maps rows (n, …) to logits (n,); `expert` and `policy` are equally many rows, and zero_centred
    reads only the first. `mix` (n,) gives the shares u; without it they are drawn.
    """
    if kind == "interpolated":
        share = torch.rand(len(expert), device=expert.device, dtype=expert.dtype) if mix is None else mix
        share = share.reshape(-1, *[1] * (expert.ndim - 1))
        x = share * expert.detach() + (1 - share) * policy.detach()
    elif kind == "zero_centred":
        x = expert.detach()
    else:
        raise ValueError(f"gradient penalty {kind!r}: choose interpolated or zero_centred")
    x.requires_grad_()
    with without("parameters"):
        gradient, = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    if kind == "zero_centred":
        return norm.square().mean(), norm.mean()
    excess = norm - target
    return (F.relu(excess) if one_sided else excess).square().mean(), norm.mean()


def _log_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    return (logprobs - old_logprobs).clamp_max(MAX_LOG_RATIO)


def _variance(x: Tensor, weight: Tensor | None) -> Tensor:
    return masked_mean((x - masked_mean(x, weight)).square(), weight)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    # softplus(l) − label · l is the same and cancels at large logits.
    return label * F.softplus(-logits) + (1 - label) * F.softplus(logits)
