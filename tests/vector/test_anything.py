"""Random nested spaces, dtypes, bounds, masks and episodes: nothing becomes another number on its way.

10,000 draws of the same are in tests/quality/test_anything.py.
"""

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from tests.support.anything import Plan, plans
from tests.support.held_against import check

HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=HEALTH)
@given(plan=plans())
def test_what_an_environment_gives_is_what_is_trained_on_recorded_read_and_predicted_from(plan: Plan, tmp_path: Path):
    check(plan, tmp_path)
