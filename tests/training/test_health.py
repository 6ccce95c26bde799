"""Health: lasting bad signs are told once, with a remedy, and not where the run is doing well."""

import pytest

from puffer_il.training.health import LASTING, Health

SICK = {
    "the critic does not follow": {"losses/explained_variance": 0.01},
    "apart without error": {"disc/accuracy_expert": 1.0, "disc/accuracy_policy": 0.999},
    "stopped moving": {"losses/approx_kl": 1e-8},
}


def watch(health: Health, metrics: dict[str, float], rollouts: int, score: float | None = None) -> list[str]:
    return [line for _ in range(rollouts) for line in health.notices(metrics, score)]


@pytest.mark.parametrize("sign", SICK)
def test_a_lasting_sign_is_told_once(sign):
    health = Health()
    assert watch(health, SICK[sign], LASTING - 1) == []
    (line,) = watch(health, SICK[sign], 10 * LASTING)
    assert sign in line


def test_a_sign_that_comes_and_goes_is_not_told():
    health, fine = Health(), {"losses/explained_variance": 0.8}
    for _ in range(5):
        assert watch(health, SICK["the critic does not follow"], LASTING - 1) == watch(health, fine, 1) == []


def test_one_sided_certainty_is_not_saturation():
    assert watch(Health(), {"disc/accuracy_expert": 1.0, "disc/accuracy_policy": 0.5}, 2 * LASTING) == []


@pytest.mark.parametrize(("score", "progress"), [(0.95, 0.1), (0.2, 0.95)])
def test_nothing_is_told_at_the_experts_level_or_while_rates_wind_down(score, progress):
    assert watch(Health(), {**SICK["stopped moving"], "progress": progress}, 2 * LASTING, score) == []
