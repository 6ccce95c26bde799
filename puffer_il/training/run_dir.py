"""A run's directory and the config in it: made, read, and asked where a policy of it is to act. Needs no torch."""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from puffer_il.core import checkpoint
from puffer_il.core.config import Config, read_toml
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.learners.experiment import build
from puffer_il.vector import trust
from puffer_il.vector.make import same_environment
from puffer_il.vector.watch import Watch

LOCK_TRIES, LOCK_WAIT_S = 20, 0.1


def prepare_run_dir(config: Config) -> Path:
    """Create the run's directory and write the resolved config into it; InputError if that cannot be."""
    given, named = config.train.run_dir, f"train.run_dir = {config.train.run_dir!r}"
    if given and (Path(given) / "config.toml").exists():
        raise InputError(f"{named} holds a run; continue it with --resume or choose another")
    trust.remember(config.env.name, config.env.kwargs)
    try:
        run_dir = Path(given) if given else _own_folder(config)
        run_dir.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(run_dir / "config.toml", config.to_toml())
    except OSError as error:
        where = named if given else f"the folder {str(Path.cwd() / 'runs')!r}"
        raise InputError(f"{where} cannot be written ({error.strerror}); give another as train.run_dir") from None
    return run_dir


def _own_folder(config: Config) -> Path:
    """A new folder, whatever runs of the same name other processes begin in the same second."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    short = re.sub(r"[^\w.]+", "-", config.env.name).strip("-.")
    name = f"{short}-{config.algo}-{config.train.seed}-{stamp}"
    folder, number = Path("runs", name), 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}-{number}")


@contextmanager
def run_directory(config: Config, resume: Path | None) -> Iterator[Path]:
    """The run's directory with the resolved config in it, which no other process can take meanwhile; what fails before
    the run begins leaves no trace."""
    run_dir = resume or prepare_run_dir(config)
    with locked(run_dir), _with_config(config, run_dir, bool(resume)):
        yield run_dir


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run's directory; InputError if another process does. The lock ends with its process, however it ends."""
    handle = os.open(run_dir, os.O_RDONLY)
    try:
        for attempt in range(LOCK_TRIES):  # workers of a process that was killed live on for a moment
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == LOCK_TRIES - 1:
                    raise InputError(f"{run_dir}: another process is at this run; wait for its end, or give another "
                                     "run directory") from None
                time.sleep(LOCK_WAIT_S)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


@contextmanager
def _with_config(config: Config, run_dir: Path, resume: bool) -> Iterator[None]:
    path = run_dir / "config.toml"
    before = path.read_text()
    try:
        if resume:
            checkpoint.write_text(path, config.to_toml())
        yield
    except BaseException as error:
        with suppress(OSError):  # the directory may be gone
            if resume and isinstance(error, InputError):
                checkpoint.write_text(path, before)
            elif not resume and list(run_dir.iterdir()) == [path]:
                path.unlink()
                run_dir.rmdir()
        raise


def load_config(run_dir: Path) -> Config:
    """The resolved config that a run wrote; InputError if the folder is not a run."""
    path = Path(run_dir) / "config.toml"
    if not path.is_file():
        raise InputError(f"{run_dir} is not a run directory (no config.toml); give one that 'puffer-il train' wrote")
    tables = read_toml(path)
    check_named(path, tables)
    return build(tables["algo"], [(str(path), tables)])


def is_finished(run_dir: Path) -> bool:
    """Whether the run has its summary of the end."""
    try:
        return json.loads((run_dir / "summary.json").read_text())["status"] == "finished"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def check_named(path: Path, tables: dict[str, Any]) -> None:
    """InputError unless a run's config names its algorithm and its environment."""
    env = tables.get("env")
    for key, value in (("algo", tables.get("algo")), ("env.name", env.get("name") if isinstance(env, dict) else None)):
        if not value or not isinstance(value, str):
            raise InputError(f"{path}: {key} = {value!r}: must name the run's own; restore the file that 'puffer-il "
                             "train' wrote")


def patience_of(policy: object) -> tuple[int, Watch]:
    """How long whoever records a policy waits for it, as its run says: steps after which an episode that goes on is
    given up, 0 where that is left to the environment; and what becomes of environments that do not answer."""
    if not (isinstance(policy, Path) and (policy / "config.toml").is_file()):
        return 0, Watch(guard=True)
    config = load_config(policy)
    return config.eval.max_episode_steps, Watch(config.env.timeout_s, config.env.on_timeout, guard=True)


def environment_of(policy: Path | None, env: str | None, kwargs: dict[str, Any], trusted: bool = False
                   ) -> tuple[str, dict[str, Any], Pictures]:
    """Where a policy is to act: the environment as given, or else its run's; its parameters: under `kwargs` those of
    the run, if it is of that environment; and how the run prepares pictures. InputError if the run's environment runs
    code that nobody has trusted, unless it is `trusted` now."""
    config = load_config(policy) if policy and policy.is_dir() else None
    name = env or (config.env.name if config else "")
    if not name:
        raise InputError("an environment is missing; give its name, a folder, or the run of a policy: --policy RUN")
    if config and same_environment(name, config.env.name):
        if not env or config.env.kwargs:
            trust.check(config.env.name, config.env.kwargs, f"{policy}/config.toml", trusted)
        kwargs = config.env.kwargs | kwargs
    trust.remember(name, kwargs)
    return name, kwargs, config.env.pictures if config else Pictures()
