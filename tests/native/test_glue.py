"""Generated C, and its compilation at build time and at run time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from puffer_il.core.errors import InputError
from puffer_il.native import glue, vec_api
from puffer_il.native.envfile import read_env
from tests.support.environments import FOLDERS, write_env

TOML = """
[observation]
dtype = "int8"
shape = [3]
low = -3
high = 3
[action]
dtype = "float32"
shape = [2]
low = [-0.1, -inf]
high = [0.1, inf]
[parameters]
speed = 1.5
count = 3
wild = false
"""
HEADER = """
#include "part.h"
typedef struct { int x; } Env;
static inline void c_reset(Env *env, Io io) { io.observations[0] = PART; }
static inline void c_step(Env *env, Io io) { io.observations[0] = PART; }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_env(tmp_path, "thing", TOML, HEADER)
    (folder / "part.h").write_text("#define PART 1\n")
    return folder


def test_source_says_what_env_toml_says(folder: Path):
    source = glue.c_source(read_env(folder))
    for line in ("ENV_AGENTS = 1,", "ENV_OBS_SIZE = 3,", "ENV_ACTION_SIZE = 2,", "ENV_AUTORESET = 1,",
                 "typedef int8_t Obs;", "typedef float Action;", "double speed;", "int64_t count;", "int64_t wild;",
                 '#include "thing.h"\n#include "vec_env.h"',
                 f'#define ENV_SOURCE_HASH "{glue.source_hash(read_env(folder))}"'):
        assert line in source
    assert f"ACTION_LOWS[] = {{{(-0.1).hex()}, -INFINITY}};" in source


def test_headers_are_found_through_includes(folder: Path):
    names = [path.name for path in glue.headers(read_env(folder))]
    assert sorted(names) == ["canvas.h", "env.h", "part.h", "rng.h", "thing.h", "vec_api.h", "vec_env.h"]


def test_hash_changes_with_all_that_is_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen = [glue.source_hash(read_env(folder))]
    (folder / "part.h").write_text("#define PART 2\n")
    seen.append(glue.source_hash(read_env(folder)))
    (folder / "env.toml").write_text(TOML.replace("[3]", "[4]"))
    seen.append(glue.source_hash(read_env(folder)))
    (folder / "env.toml").write_text('description = "words are not compiled"\n' + TOML.replace("[3]", "[4]"))
    assert glue.source_hash(read_env(folder)) == seen[-1]
    monkeypatch.setattr(glue, "FLAGS", (*glue.FLAGS, "-g"))
    seen.append(glue.source_hash(read_env(folder)))
    assert len(set(seen)) == 4


def test_compiles_once_for_the_same_sources(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    env, cache = read_env(folder), tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: glue.compile_env(env, cache), range(4)))
    assert [*paths] == list(cache.glob("*.so"))
    assert len(list(cache.iterdir())) == 2  # the file and its checksum, and nothing left of the work
    assert {glue.compile_env(env, cache)} == paths
    monkeypatch.setenv("CC", "false")  # another compiler
    with pytest.raises(InputError, match="does not compile: the compiler gives no reason"):
        glue.compile_env(env, cache)
    monkeypatch.delenv("CC")
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        assert {glue.compile_env(env, cache)} == paths  # what is built is used where there is no compiler
    monkeypatch.setenv("CC", "false")
    (folder / "part.h").write_text("#define PART 2\n")
    with pytest.raises(InputError, match="does not compile: the compiler gives no reason"):
        glue.compile_env(env, cache)
    assert [*paths] == list(cache.glob("*.so"))


def test_compiler_errors_are_one_line(folder: Path, tmp_path: Path):
    (folder / "part.h").write_text("")
    with pytest.raises(InputError, match=r"thing does not compile: .*thing\.h:5:\d+: error: .*PART") as error:
        glue.compile_env(read_env(folder), tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_no_compiler_and_no_place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be compiled into .*file"):
        glue.compile_env(read_env(folder), tmp_path / "file")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="install gcc"):
        glue.compile_env(read_env(folder), tmp_path / "cache")


def test_extension_for_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    extension = glue.env_extension(FOLDERS["cartpole"])
    assert extension.name == "puffer_il.envs.cartpole._cartpole"
    source, = extension.sources
    assert Path(source).read_text() == glue.c_source(read_env(FOLDERS["cartpole"]))
    assert {Path(path).name for path in extension.depends} >= {"cartpole.h", "env.h", "vec_env.h", "rng.h", "trig.h"}
    assert all(Path(path).is_file() and not Path(path).is_absolute() for path in extension.depends)
    before = os.stat(source).st_mtime_ns
    glue.env_extension(FOLDERS["cartpole"])
    assert os.stat(source).st_mtime_ns == before  # an unchanged file is left alone, so that nothing is built again


def test_build_time_imports_are_light():
    """setup.py imports the module where neither torch nor PufferLib nor Gymnasium is installed yet."""
    code = "import sys, puffer_il.native.glue; print({'torch', 'pufferlib', 'gymnasium', 'rich'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_cached_library_that_is_damaged_is_compiled_again(folder, tmp_path, monkeypatch):
    """As a machine that stops soon after a compilation can leave it: empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    env = read_env(folder)
    built = glue.compile_env(env)
    whole = built.read_bytes()
    built.write_bytes(b"")
    assert glue.compile_env(env) == built and len(built.read_bytes()) == len(whole)


def test_a_library_beside_a_users_environment_is_never_loaded(folder, tmp_path, monkeypatch):
    """Nor one of a shipped environment whose sources are others: its code would run before anybody could look."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    env, loaded = read_env(folder), []
    built = SimpleNamespace(abi_version=vec_api.ABI_VERSION, source_hash=glue.source_hash(env).encode())
    monkeypatch.setattr(vec_api, "_table", lambda path: loaded.append(path) or built)
    beside = env.folder / f"_{env.name}{vec_api.EXTENSION_SUFFIXES[0]}"
    beside.write_bytes(glue.source_hash(env).encode())
    vec_api.load_api(env)
    monkeypatch.setattr(vec_api, "env_folders", lambda: {env.name: env.folder})
    vec_api.load_api(env)
    beside.write_bytes(b"of other sources")
    vec_api.load_api(env)
    assert [path == beside for path in loaded] == [False, True, False]
