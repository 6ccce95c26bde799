"""RLDS through tensorflow_datasets: the real one where it is installed, and a stand-in that gives the same arrays."""

import sys

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from tests.support.rlds import LENGTHS, folder, stand_in, steps


def same(demos):
    assert demos.lengths.tolist() == [2, 3] and demos.actions[:, 0].tolist() == [0, 1, 0, 1, 2]
    obs, following = (demos.layout.unpack(rows) for rows in (demos.obs, demos.next_obs))
    assert obs["state"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert following["image"][:, 0, 0, 0].tolist() == [1, 2, 1, 2, 3] and following["image"].dtype == np.uint8
    assert demos.terminated.tolist() == [False, True] and demos.truncated.tolist() == [True, False]
    assert demos.returns.tolist() == [1, 3]


def test_the_last_step_is_the_final_observation_and_its_action_is_not_taken(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    demos = read_demos(folder(tmp_path / "d"))
    same(demos)
    assert demos.notes == ("the splits train, val are read as one", "texts are left out: observation.text")


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="needs tensorflow_datasets; pip install tensorflow tensorflow-datasets, or"):
        read_demos(folder(tmp_path / "d"))


def test_a_class_of_another_package_is_never_imported(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    with pytest.raises(InputError, match=r"names the class 'evil.Feature', which would be imported"):
        read_demos(folder(tmp_path / "d", "evil.Feature"))


def test_a_data_set_without_steps_is_refused(tmp_path):
    path = folder(tmp_path / "d")
    (path / "features.json").write_text('{"featuresDict": {"features": {"image": {}}}}')
    with pytest.raises(InputError, match=r"features.json names no steps"):
        read_demos(path)


def test_what_tensorflow_datasets_writes_is_read(tmp_path):
    package = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")
    features = package.features
    info = features.FeaturesDict({"steps": features.Dataset({
        "observation": {"state": features.Tensor(shape=(2,), dtype=np.float32), "text": features.Text(),
                        "image": features.Image(shape=(4, 4, 3), dtype=np.uint8)},
        "action": features.Tensor(shape=(1,), dtype=np.float32), "reward": np.float32, "discount": np.float32,
        "is_first": np.bool_, "is_last": np.bool_, "is_terminal": np.bool_})})

    def rows(columns, k):
        return {key: rows(part, k) if isinstance(part, dict) else part[k] for key, part in columns.items()}

    class Toy(package.core.GeneratorBasedBuilder):
        VERSION = package.core.Version("1.0.0")

        def _info(self):
            return package.core.DatasetInfo(builder=self, features=info)

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for e, n in enumerate(LENGTHS):
                yield e, {"steps": [rows(steps(e, n), k) for k in range(n)]}

    Toy(data_dir=str(tmp_path)).download_and_prepare()
    demos = read_demos(tmp_path / "toy" / "1.0.0")
    if demos.lengths.tolist() == [2, 3]:  # it shuffles episodes as it writes them
        same(demos)
    assert sorted(demos.lengths) == [2, 3]
