"""`puffer-il env new`: a folder with a small environment that works as it is, to be changed into one's own."""

import keyword
import re
import shlex
from pathlib import Path

from puffer_il.core.errors import InputError
from puffer_il.native.catalogue import env_folders
from puffer_il.native.glue import CSRC

TEMPLATES = Path(__file__).parent / "template"
NAME, CLASS = "my_env", "MyEnv"  # as the templates have them
C_WORDS = """auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while bool true false assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg
    stdbool stddef stdint stdio stdlib string tgmath threads time uchar wchar wctype"""  # and headers
WHAT = {".h": "what the environment does", ".pyx": "what the environment does", "env.toml": "how it describes itself",
        ".py": "what it promises", "gail.toml": "how GAIL learns it", "README.md": "the commands again"}


def write(folder: Path, cython: bool) -> list[Path]:
    """The template's files under the folder's own name; InputError if it cannot be called that, or holds something."""
    name = checked(folder.expanduser().absolute().name)
    folder = folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already; choose another name, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} cannot be made because a file is in the way; choose another place with "
                         "--dir") from None
    found = []
    for source in sorted(path for path in (TEMPLATES / ("cython" if cython else "c")).iterdir() if path.is_file()):
        found.append(folder / source.name.replace(NAME, name))
        found[-1].write_text(source.read_text().replace(NAME, name).replace(CLASS, class_name(name)))
    return found


def checked(name: str) -> str:
    """`name` if an environment can be called that: it names a header, a C file and a Python module."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        better = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        better = f"env_{better}" if better[:1].isdigit() else better
        raise InputError(f"an environment cannot be called {name!r}: use letters, digits and _, a letter first"
                         + (f", such as {better}" if better else ""))
    if name in C_WORDS.split() or keyword.iskeyword(name) or (CSRC / f"{name}.h").is_file():
        raise InputError(f"an environment cannot be called {name!r}, a name that C, Python or puffer_il uses; use "
                         f"{name}_env")
    if name in env_folders():
        raise InputError(f"an environment cannot be called {name!r}: there is one already (puffer-il env list); use "
                         f"my_{name}")
    return name


def class_name(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def written(files: list[Path], folder: Path) -> list[str]:
    """A line about each file, what the user will change first."""
    files = sorted(files, key=lambda path: list(WHAT).index(_kind(path)))
    width = max(len(path.name) for path in files)
    return [f"{folder}/ holds a small task that works as it is and that you can change into your own:",
            *(f"  {path.name:<{width}}  {WHAT[_kind(path)]}" for path in files)]


def _kind(path: Path) -> str:
    return path.name if path.name in WHAT else path.suffix


def after(folder: Path, cython: bool) -> list[str]:
    """What to type next, with the path as it was typed."""
    env, demos = (shlex.quote(str(path)) for path in (folder, folder / "demos.npz"))
    run, config = f"runs/{folder.name}", shlex.quote(str(folder / "gail.toml"))
    watch = f"puffer-il env play {env}{' --keys' if cython else ''}"
    learn = [f"puffer-il train ppo {env} --total-steps 500000 --run-dir {run}"] if cython else [
        f"puffer-il demos collect {env} --expert --episodes 20 --out {demos}",
        f"puffer-il train gail {env} --demos {demos} --config {config} --run-dir {run}"]
    return ["next:", *(f"  {line}" for line in (f"puffer-il env check {env}", watch, *learn,
                                                f"puffer-il env play {env} --policy {run}"))]
