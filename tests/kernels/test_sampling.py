"""The kernels' noise: Philox to the bit, the distributions it becomes, and that it is nobody's business who asks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.spec import ActionSpec, Array
from puffer_il.kernels import _kernels as kernels
from puffer_il.nn.distributions import Categorical, Gaussian, Noise
from tests.support.kernels import EACH_SET

ALL_ONES = 0xFFFFFFFF


def philox(counter: Array, key: tuple[int, int]) -> Array:
    """Philox4x32-10 (Salmon et al. 2011): counters (n, 4) uint32 → (n, 4) uint32."""
    c = [counter[:, k].astype(np.uint64) for k in range(4)]
    k0, k1 = key
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), second & np.uint64(ALL_ONES),
             (first >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), first & np.uint64(ALL_ONES)]
        k0, k1 = (k0 + 0x9E3779B9) & ALL_ONES, (k1 + 0xBB67AE85) & ALL_ONES
    return np.stack(c, 1).astype(np.uint32)


def uniforms(rows: int, dims: int, noise: Noise, first_row: int = 0) -> Array:
    """(rows, dims) in [0, 1): what the kernels should draw. Four dimensions share a counter (row, group, step)."""
    counter = np.zeros((rows, 4), np.uint32)
    counter[:, 0] = (np.arange(rows, dtype=np.uint64) + np.uint64(first_row)).astype(np.uint32)
    counter[:, 2], counter[:, 3] = noise.step & ALL_ONES, noise.step >> 32
    words = []
    for group in range(-(-dims // 4)):
        counter[:, 1] = group
        words.append(philox(counter, (noise.seed & ALL_ONES, noise.seed >> 32)))
    return (np.concatenate(words, 1)[:, :dims] >> 8) * 2.0**-24


def noise(seed: int = 0, step: int = 0) -> Noise:
    return Noise(seed, torch.Generator(), step)


def categorical(*nvec: int) -> Categorical:
    return Categorical(ActionSpec(nvec=nvec, shape=(len(nvec),)))


def gaussian(dims: int, low: float = -1.0, high: float = 1.0, log_std: float = 0.0) -> Gaussian:
    bound = np.ones(dims, np.float32)
    return Gaussian(ActionSpec(low=low * bound, high=high * bound, shape=(dims,)), False, log_std)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("counter", "key", "expected"), [
    ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([ALL_ONES] * 4, (ALL_ONES, ALL_ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
])
def test_the_reference_gives_its_authors_numbers(counter: list[int], key: tuple[int, int], expected: str) -> None:
    """Of kat_vectors in Random123."""
    words = philox(np.array([counter], np.uint32), key)[0]
    assert " ".join(f"{word:08x}" for word in words) == expected


STATES = [(noise(), 0), (noise(7, 3), 5), (noise(2**40 + 3, 2**33 + 1), 1000),
          (noise(2**64 - 1, 2**64 - 1), 2**32 - 60)]


@EACH_SET
@pytest.mark.parametrize(("state", "first_row"), STATES)
def test_actions_are_drawn_by_philox(state: Noise, first_row: int, isa: str) -> None:
    """Seeds, steps and rows beyond 32 bits included. Equal logits: the action is the uniform's leading bits."""
    kernels.use_instruction_set(isa)
    dims, choices = 7, 64
    actions, _ = categorical(*[choices] * dims).sample(torch.zeros(500, dims * choices), state, first_row)
    expected = uniforms(500, dims, state, first_row) * choices
    clear = np.abs(expected - np.round(expected)) > 1e-4  # on a border rounding decides
    assert clear.mean() > 0.99 and np.array_equal(actions.numpy()[clear], np.floor(expected)[clear])
    heads, _ = categorical(2).sample(torch.zeros(500, 2), state, first_row)
    assert np.array_equal(heads.numpy()[:, 0], uniforms(500, 1, state, first_row)[:, 0] >= 0.5)


@EACH_SET
@pytest.mark.parametrize(("state", "first_row"), STATES)
def test_normals_are_box_and_mullers(state: Noise, first_row: int, isa: str) -> None:
    kernels.use_instruction_set(isa)
    dims = 5
    dist, means = gaussian(dims, -3, 5, log_std=-0.5), random(400, dims)
    actions, _ = dist.sample(means, state, first_row)
    u = uniforms(400, 8, state, first_row)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, ::2])), 2 * np.pi * (u[:, 1::2] - 0.5)
    normals = np.stack((radius * np.sin(angle), radius * np.cos(angle)), 2).reshape(400, 8)[:, :dims]
    expected = 1 + 4 * (means.double().numpy() + math.exp(-0.5) * normals)
    np.testing.assert_allclose(actions.numpy(), expected, atol=2e-5)


def test_frequencies_are_the_softmaxs_in_every_dimension_and_jointly() -> None:
    nvec, n = (3, 2, 5, 4, 2), 200_000
    logits = torch.cat([random(k, seed=k) for k in nvec])
    actions, _ = categorical(*nvec).sample(logits.expand(n, -1), noise(1))
    shares = [part.double().softmax(0).numpy() for part in logits.split(nvec)]
    for first in range(len(nvec)):
        for second in range(first + 1, len(nvec)):
            joint = np.zeros((nvec[first], nvec[second]))
            np.add.at(joint, (actions[:, first].numpy(), actions[:, second].numpy()), 1)
            expected = n * np.outer(shares[first], shares[second])
            degrees = joint.size - 1
            assert ((joint - expected) ** 2 / expected).sum() < degrees + 5 * math.sqrt(2 * degrees)


def test_normals_have_the_moments_the_tails_and_the_distribution_of_normals() -> None:
    n, dims = 100_000, 6
    with torch.no_grad():
        sample = gaussian(dims).sample(torch.zeros(n, dims), noise(3))[0].double()
    limit = 4 / math.sqrt(n)  # four standard errors
    assert float(sample.mean(0).abs().max()) < limit
    assert float((sample.square().mean(0) - 1).abs().max()) < limit * math.sqrt(2)
    assert float(sample.pow(3).mean(0).abs().max()) < limit * math.sqrt(15)
    assert float((sample.pow(4).mean(0) - 3).abs().max()) < limit * math.sqrt(96)
    correlation = (sample.T @ sample / n).fill_diagonal_(0)
    assert float(correlation.abs().max()) < limit
    beyond = float((sample.abs() > 3).double().mean())
    assert abs(beyond - 0.0026998) < 4 * math.sqrt(0.0027 / (n * dims))
    assert 4.3 < float(sample.abs().max()) < 5.8  # 24 bits end at 5.77
    steps = torch.arange(1, n + 1, dtype=torch.float64)[:, None] / n
    distance = (torch.special.ndtr(sample.sort(0).values) - steps).abs().max(0).values
    assert float(distance.max()) * math.sqrt(n) < 1.95  # Kolmogorov and Smirnov, 0.1 %


def test_neighbouring_rows_steps_and_seeds_have_nothing_in_common() -> None:
    n, dist = 50_000, gaussian(1)
    with torch.no_grad():
        here, later, elsewhere = (dist.sample(torch.zeros(n, 1), state)[0][:, 0].double() for state in
                                  (noise(5, 9), noise(5, 10), noise(6, 9)))
    for other in (here.roll(1), here.roll(48), later, elsewhere, later.roll(1)):
        assert abs(float((here * other).mean())) < 4 / math.sqrt(n)
    assert len(here.unique()) > 0.99 * n


@EACH_SET
@pytest.mark.parametrize("dist", [categorical(2), categorical(3, 2, 17), categorical(*[8] * 64), categorical(512),
                                  gaussian(1), gaussian(3, -2, 6, 0.7), gaussian(64, log_std=-2.0)],
                         ids=["2", "multi", "64 dims", "512 choices", "gaussian", "wide", "64 gaussians"])
def test_log_probabilities_are_the_distributions_own(dist: Categorical | Gaussian, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for spread in (1.0, 20.0):
        params = spread * random(150, dist.num_params)
        actions, logprobs = dist.sample(params, noise(2, 5))
        assert dist.kernel is not None and actions.shape == (150, dist.kernel.dims) and logprobs.shape == (150,)
        with torch.no_grad():
            torch.testing.assert_close(logprobs, dist.log_prob(params, actions), rtol=1e-5, atol=1e-5)


@EACH_SET
@pytest.mark.parametrize("dist", [categorical(3, 4), gaussian(3)], ids=["categorical", "gaussian"])
def test_a_rows_noise_depends_on_its_place_alone(dist: Categorical | Gaussian, isa: str) -> None:
    kernels.use_instruction_set(isa)
    params, state = random(3301, dist.num_params), noise(4, 2)
    whole = dist.sample(params, state)
    pieces, first = [], 0
    for size in (1, 15, 32, 47, 48, 49, 100, 1536, 1473):
        pieces.append(dist.sample(params[first:first + size], state, first))
        first += size
    assert first == len(params)
    for k in (0, 1):
        assert torch.equal(torch.cat([piece[k] for piece in pieces]), whole[k])
    kernels.set_threads(3)
    assert all(torch.equal(a, b) for a, b in zip(dist.sample(params, state), whole, strict=True))


@pytest.mark.parametrize("dist", [categorical(3), gaussian(3)], ids=["categorical", "gaussian"])
def test_parameters_may_be_part_of_a_wider_tensor(dist: Categorical | Gaussian) -> None:
    params = random(90, 8)[:, 1:7:2]
    assert not params.is_contiguous()
    for a, b in zip(dist.sample(params, noise()), dist.sample(params.contiguous(), noise()), strict=True):
        assert torch.equal(a, b)
    actions, logprobs = dist.sample(params[:0], noise())
    assert actions.shape == (0, dist.kernel.dims) and logprobs.shape == (0,)


@EACH_SET
def test_certain_actions_are_taken_and_hopeless_ones_are_not(isa: str) -> None:
    kernels.use_instruction_set(isa)
    logits = torch.tensor([-30.0, 60.0, -30.0, 3e4, -3e4, -3e4]).expand(20_000, 6)
    actions, logprobs = categorical(3, 3).sample(logits, noise())
    assert (actions == torch.tensor([1, 0])).all() and torch.equal(logprobs, torch.zeros(20_000))


@EACH_SET
@pytest.mark.parametrize("at", range(3))
def test_a_nan_is_never_an_action_out_of_range(at: int, isa: str) -> None:
    kernels.use_instruction_set(isa)
    logits = random(100, 3)
    logits[50, at] = math.nan
    actions, logprobs = categorical(3).sample(logits, noise())
    assert bool(((actions >= 0) & (actions < 3)).all()) and logprobs[torch.arange(100) != 50].isfinite().all()


@EACH_SET
def test_a_nan_among_logits_is_seen(isa: str) -> None:
    kernels.use_instruction_set(isa)
    for at in range(3):
        logits = random(100, 3)
        logits[50, at] = math.nan
        _, logprobs = categorical(3).sample(logits, noise())
        assert logprobs.isnan().nonzero().tolist() == [[50]]


@EACH_SET
def test_a_nan_among_means_is_seen(isa: str) -> None:
    kernels.use_instruction_set(isa)
    means = random(100, 2)
    means[50] = math.nan
    actions, logprobs = gaussian(2).sample(means, noise())
    assert actions.isnan().nonzero()[:, 0].tolist() == [50, 50] and logprobs.isnan().nonzero().tolist() == [[50]]


def test_larger_distributions_are_torchs() -> None:
    dims, params = kernels.MAX_ACTION_DIMS, kernels.MAX_ACTION_PARAMS
    for dist in (categorical(*[2] * (dims + 1)), categorical(params + 1), gaussian(dims + 1)):
        assert dist.kernel is None
        state = Noise.on(torch.device("cpu"), 1)
        actions, logprobs = dist.sample(random(20, dist.num_params), state)
        with torch.no_grad():
            torch.testing.assert_close(logprobs, dist.log_prob(random(20, dist.num_params), actions))
        assert not torch.equal(dist.sample(random(20, dist.num_params), state)[0], actions)  # the generator moves on
