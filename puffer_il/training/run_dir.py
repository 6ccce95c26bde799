"""A run's directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError


def prepare_run_dir(config: Config) -> Path:
    """Create the run's directory and write the resolved config into it; InputError if that cannot be."""
    train_cfg = config.train
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    short = re.sub(r"[^\w.]+", "-", config.env.name).strip("-.")
    run_dir = Path(train_cfg.run_dir or f"runs/{short}-{config.algo}-{train_cfg.seed}-{stamp}")
    if (run_dir / "config.toml").exists():
        raise InputError(f"train.run_dir = {str(run_dir)!r} holds a run already; go on with --resume or choose another")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(run_dir / "config.toml", config.to_toml())
    except OSError as error:
        raise InputError(f"train.run_dir = {str(run_dir)!r} cannot be written ({error.strerror}); "
                         "choose another") from None
    return run_dir


@contextmanager
def run_directory(config: Config, resume: Path | None) -> Iterator[Path]:
    """The run's directory with the resolved config in it; what fails before the run begins leaves no trace."""
    run_dir = resume or prepare_run_dir(config)
    path = run_dir / "config.toml"
    before = path.read_text()
    try:
        if resume:
            checkpoint.write_text(path, config.to_toml())
        yield run_dir
    except BaseException as error:
        if resume and isinstance(error, InputError):
            checkpoint.write_text(path, before)
        elif not resume and list(run_dir.iterdir()) == [path]:
            path.unlink()
            run_dir.rmdir()
        raise
