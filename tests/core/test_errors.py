"""An InputError is one line, whatever the names and values in it are."""

import pickle

from puffer_il.core.errors import InputError


def test_names_and_values_of_several_lines_become_one():
    error = InputError("demos a\n  b.npz: holds nothing;\r\ngive another")
    assert str(error) == "demos a b.npz: holds nothing; give another"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as worker processes hand it on


def test_a_long_value_leaves_the_begin_and_the_remedy():
    text = str(InputError(f"env.toml: shape: {'9, ' * 5000}; make it smaller"))
    assert len(text) <= 2_000 and text.startswith("env.toml: shape: 9, ") and text.endswith("9, ; make it smaller")
