"""env.toml: what is read, and the one line that each mistake gets."""

import math
from pathlib import Path

import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.envfile import Parameter, read_env
from puffer_il.native.glue import c_source
from tests.support.environments import write_env

GOOD = """
description = "a thing"
agents = 2
max_episode_steps = 10
[observation]
dtype = "uint8"
shape = [2, 2]
low = 0
high = [1, 2, 3, 4]
[action]
discrete = [2, 3]
[parameters]
speed = 1.5
count = { default = 3, low = 1, high = 9, help = "how many" }
wild = false
"""


def read(tmp_path: Path, text: str):
    return read_env(write_env(tmp_path, "thing", text, "typedef struct { int x; } Env;"))


def test_everything_is_read(tmp_path: Path):
    env = read(tmp_path, GOOD)
    assert (env.name, env.description, env.source, env.agents, env.autoreset) == ("thing", "a thing", "", 2, True)
    assert (env.observation.dtype, env.observation.shape, env.observation.size) == ("uint8", (2, 2), 4)
    assert (env.observation.low, env.observation.high, env.observation.nvec) == ((0,), (1, 2, 3, 4), ())
    assert (env.action.nvec, env.action.shape, env.action.low, env.action.high) == ((2, 3), (2,), (0, 0), (1, 2))
    assert [p.name for p in env.parameters] == ["max_episode_steps", "speed", "count", "wild"]
    assert env.parameters[2] == Parameter("count", 3, 1, 9, "how many")
    assert env.values({}) == {"max_episode_steps": 10, "speed": 1.5, "count": 3, "wild": False}
    values = env.values({"speed": 2, "wild": True, "max_episode_steps": 0})
    assert values == {"max_episode_steps": 0, "speed": 2.0, "count": 3, "wild": True}
    assert type(values["speed"]) is float


def test_least_that_is_needed(tmp_path: Path):
    env = read(tmp_path, """
[observation]
dtype = "float32"
shape = [1]
low = -inf
high = inf
[action]
dtype = "float32"
shape = [3]
low = -1
high = 1.0
""")
    assert (env.agents, env.values({}), env.action.nvec, env.action.size) == (1, {"max_episode_steps": 0}, (), 3)
    assert env.observation.low == (-math.inf,)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("agents = 2", "agent = 2", "unknown key 'agent'; did you mean 'agents'?"),
    ("agents = 2", "agents = 0", "agents: 0 must be a whole number from 1"),
    ("agents = 2", "agents = 'two'", "agents: 'two': 'two' is not a parameter"),
    ("agents = 2", "agents = true", "agents: expected int or str, got True"),
    ("agents = 2", "autoreset = false", "max_episode_steps = 10: without autoreset"),
    ("agents = 2", "agents = ", "cannot be read"),
    ('"uint8"', '"float64"', "observation.dtype: 'float64' is not one of float32, uint8"),
    ("shape = [2, 2]", "", "observation.shape: missing"),
    ("shape = [2, 2]", "shape = []", r"observation.shape: \[\] must hold whole numbers above 0"),
    ("shape = [2, 2]", "shape = [2, 0]", "observation.shape"),
    ("shape = [2, 2]", "shape = [5]", r"observation.high: has 4 numbers but shape \[5\] needs 5"),
    ("low = 0", "low = 2", "observation.low: above high"),
    ("low = 0", "low = -1", "observation.low: -1 must be uint8 numbers"),
    ("low = 0", "low = 0.5", "observation.low: expected list or int, got 0.5"),
    ("[observation]", "[observations]", "unknown key 'observations'; did you mean 'observation'?"),
    ("discrete = [2, 3]", "discrete = 0", "action.discrete: 0 must be a whole number from 1"),
    ("discrete = [2, 3]", "discrete = [2, 1.5]", "action.discrete"),
    ("discrete = [2, 3]", "discrete = 'many'", "action.discrete: 'many': 'many' is not a parameter"),
    ("discrete = [2, 3]", "discrete = 2\nlow = 0", "unknown key 'action.low'"),
    ("discrete = [2, 3]", 'dtype = "int8"\nshape = [1]\nlow = 0\nhigh = 1', "'int8' is not one of float32"),
    ("discrete = [2, 3]", "", "action.dtype: missing"),
    ("speed = 1.5", "Speed = 1.5", "parameters.Speed: choose another name"),
    ("speed = 1.5", "seed = 1", "parameters.seed: choose another name"),
    ("speed = 1.5", "speed = [1]", "parameters.speed.default: expected bool or int or float or str, got"),
    ("speed = 1.5", "speed = nan", "speed = nan: must be a number"),
    ("speed = 1.5", "speed = { low = 1 }", "parameters.speed.default: missing"),
    ("default = 3", "default = 30", "count = 30: must be a number from 1 to 9"),
    ("default = 3", "defalt = 3", "unknown key 'parameters.count.defalt'; did you mean 'parameters.count.default'?"),
])
def test_mistakes_get_one_line(tmp_path: Path, old: str, new: str, message: str):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "env.toml" in str(error.value) and "\n" not in str(error.value)


def test_missing_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"env\.toml does not exist"):
        read_env(tmp_path)
    folder = write_env(tmp_path, "thing", GOOD, "")
    (folder / "thing.h").unlink()
    with pytest.raises(InputError, match=r"there is no thing\.h beside it"):
        read_env(folder)


@pytest.mark.parametrize(("given", "message"), [
    ({"sped": 1.0}, "environment thing: unknown parameter 'sped'; did you mean 'speed'?"),
    ({"speed": "1"}, "speed = '1': expected a number, such as 1.5"),
    ({"speed": True}, "speed = True: expected a number"),
    ({"speed": math.inf}, "speed = inf: must be a number"),
    ({"speed": math.nan}, "speed = nan: must be a number"),
    ({"count": 2.0}, "count = 2.0: expected a whole number, such as 3"),
    ({"count": 10}, "count = 10: must be a number from 1 to 9"),
    ({"wild": 1}, "wild = 1: expected true or false"),
    ({"max_episode_steps": -1}, "max_episode_steps = -1: must be a number from 0"),
    ({"max_episode_steps": 2**63}, "must be a number from 0"),
])
def test_wrong_parameters_get_one_line(tmp_path: Path, given: dict, message: str):
    env = read(tmp_path, GOOD)
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as error:
        env.values(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("entry", "message"), [
    ('table = "float16"', "data.table: 'float16': give one of float64, float32"),
    ('speed = "float32"', "data.speed: give it a name of its own"),
    ('model = { fil = "a.txt" }', "unknown key 'data.model.fil'; did you mean 'data.model.file'?"),
    ('model = { package = "numpy" }', "data.model.file: missing"),
    ('model = { file = "a.txt", parameter = "speed" }',
     "data.model.parameter: 'speed' is not a parameter that takes a text"),
    ('model = { file = { fast = "a.txt" } }', "data.model.file: give a path, or one for each choice"),
    ('model = { file = { oval = "a.txt" } }', "data.model.file: give a path, or one for each choice"),
    ('model = { file = { oval = "a.txt", eight = 8 } }', "data.model.file: give a path, or one for each"),
])
def test_wrong_data_get_one_line(tmp_path: Path, entry: str, message: str):
    track = 'track = { default = "oval", choices = ["oval", "eight"] }\n[data]\n'
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as error:
        read(tmp_path, GOOD + track + entry)
    assert "env.toml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("shape", ["[2000000000]", "[4096, 4096, 4096]", '["2 * 1000000000"]'])
def test_a_box_of_more_numbers_than_memory_is_refused(tmp_path: Path, shape: str):
    with pytest.raises(InputError, match="more than 16,777,216"):
        read(tmp_path, GOOD.replace("shape = [2, 2]", f"shape = {shape}"))


def test_lists_that_are_no_names_and_headers_that_are_no_text_are_refused_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"log: .* expected a list of different names"):
        read(tmp_path, f"log = [{{a = 1}}]\n{GOOD}")
    (tmp_path / "other").mkdir()
    folder = write_env(tmp_path / "other", "thing", GOOD, "typedef struct { int x; } Env;")
    (folder / "thing.h").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="save it as UTF-8"):
        c_source(read_env(folder))
