"""Shared fixtures. Other people's demonstrations are read from PUFFER_IL_TEST_DATA, by default ../shared/data."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported
DATA = Path(os.environ.get("PUFFER_IL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with other people's demonstrations; the test is skipped, saying so, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no demonstrations at {DATA}; set PUFFER_IL_TEST_DATA")
    return DATA
