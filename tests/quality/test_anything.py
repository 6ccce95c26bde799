"""10,000 random environments, held against a slow reference: see tests/vector/test_anything.py. `make quality`"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.support.anything import Plan, plans
from tests.support.held_against import check

pytestmark = pytest.mark.slow
DRAWS = 10_000


def test_nothing_becomes_another_number_in_ten_thousand_environments(tmp_path: Path):
    drawn = 0

    @settings(max_examples=DRAWS, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(plan=plans())
    def each(plan: Plan) -> None:
        nonlocal drawn
        drawn += 1
        check(plan, tmp_path)

    each()
    assert drawn >= DRAWS
