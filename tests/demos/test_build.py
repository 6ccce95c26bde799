"""From arrays to Demos and back to trajectories."""

from dataclasses import replace

import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos.formats import imitation, minari
from puffer_il.demos.subset import subsample_rows
from tests.support.demos import make_demos


def test_subsampled_rows_cannot_be_exported(tmp_path, discrete_spec):
    pytest.importorskip("minari", reason="the extra 'minari' is not installed")
    demos = subsample_rows(make_demos([9, 9]), 3)
    with pytest.raises(InputError, match="do not follow on one another"):
        imitation.write(tmp_path / "x.npz", demos)
    with pytest.raises(InputError, match="do not follow on one another"):
        minari.write("own/toy-v0", demos, discrete_spec)


def test_demonstrations_without_actions_cannot_be_exported(tmp_path, discrete_spec):
    demos = replace(make_demos(), actions=None)
    with pytest.raises(InputError, match="no actions are stored"):
        imitation.write(tmp_path / "x.npz", demos)
    with pytest.raises(InputError, match="no actions are stored"):
        minari.write("own/x-v0", demos, discrete_spec)
    assert not (tmp_path / "x.npz").exists()
