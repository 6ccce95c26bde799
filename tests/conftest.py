"""Shared fixtures. Other people's demonstrations are read from PUFFER_IL_TEST_DATA, by default ../shared/data."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported
DATA = Path(os.environ.get("PUFFER_IL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


# A shell without job control has what it starts in the background ignore interrupts; tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--env", action="append", default=[], metavar="FOLDER",
                     help="the contract test runs over this environment instead of those under envs/")


@pytest.fixture(autouse=True)
def kernels_as_they_were() -> Iterator[None]:
    """Runs set the kernels' switches for the whole process; no test inherits another's."""
    from puffer_il.kernels import _kernels as kernels
    from puffer_il.nn import fused

    before = fused.enabled(), kernels.get_threads(), kernels.instruction_set(), kernels.bf16()
    yield
    fused.enable(before[0])
    kernels.set_threads(before[1])
    kernels.use_instruction_set(before[2])
    kernels.use_bf16(before[3])


@pytest.fixture(params=[True, False], ids=["kernels", "torch"])
def route(request: pytest.FixtureRequest) -> bool:
    """Both ways in which an MLP is computed on the CPU: by the C kernels, and by torch."""
    from puffer_il.nn import fused

    fused.enable(request.param)
    return request.param


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with other people's demonstrations; the test is skipped, saying so, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no demonstrations at {DATA}; set PUFFER_IL_TEST_DATA")
    return DATA
