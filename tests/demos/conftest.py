"""The environment "toy", whose demonstrations `make_demos` makes."""

import numpy as np
import pytest

from puffer_il.core.spec import ActionSpec, EnvSpec


@pytest.fixture
def discrete_spec() -> EnvSpec:
    return EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))


@pytest.fixture
def continuous_spec() -> EnvSpec:
    bound = np.ones(1, np.float32)
    return EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(low=-bound, high=bound, shape=(1,)))
