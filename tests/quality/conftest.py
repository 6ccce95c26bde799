"""Experts of the MuJoCo tasks and their demonstrations, which all files of a session share."""

import pytest

from tests.support.locomotion import experts, fifty_trajectories


@pytest.fixture(scope="session")
def expert(tmp_path_factory, test_data):
    pytest.importorskip("mujoco")
    return experts(tmp_path_factory.mktemp("experts"), test_data)


@pytest.fixture(scope="session")
def trajectories(tmp_path_factory, expert):
    return fifty_trajectories(tmp_path_factory.mktemp("trajectories"), expert)
