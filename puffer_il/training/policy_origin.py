"""Which files decide what a policy does, so that whoever goes on with its recording is told when one has changed."""

import hashlib
from pathlib import Path

from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.rollout.policy_files import rl_zoo, vecnormalize
from puffer_il.vector import trust

DIGITS = 16  # of a SHA-256: enough to tell two files apart


def digests(policy: Path | None) -> dict[str, str]:
    """The beginning of the SHA-256 of each file that decides what --policy does: by its path a model with its
    statistics, or the newest checkpoint of a run; by its name in its package the module of a function and the packages
    that it is in, whose own imports are not followed. Empty without a policy."""
    return {} if policy is None else {name: _of_file(path) for name, path in _files(policy).items()}


def changed(before: dict[str, str], now: dict[str, str]) -> str:
    """What has become of the files since, for people; "" if they are the same."""
    before = {_within(name, now): digest for name, digest in before.items()}
    for name in sorted(before.keys() | now.keys()):
        one, other = before.get(name), now.get(name)
        if one != other:
            return (f"{name} is new since" if one is None else f"{name} has been there, and is not now" if other is None
                    else f"{name} has changed since (SHA-256 {one}… then, {other}… now)")
    return ""


def _within(name: str, now: dict[str, str]) -> str:
    """A name as it is today: of files in packages, paths were kept at first, which another environment's are not."""
    return next((one for one in now if not Path(one).is_absolute() and name.endswith(f"/{one}")), name)


def _files(policy: Path) -> dict[str, Path]:
    if policy.is_dir() and rl_zoo.is_one(policy):
        policy = rl_zoo.model_in(policy)
    if policy.is_dir():
        try:
            latest = checkpoint.latest(policy)
            return {str(latest): latest}
        except InputError:  # what reads it will say so
            return {}
    if policy.is_file():
        statistics = vecnormalize.beside(policy) if policy.suffix == ".zip" else None
        return {str(path): path for path in (policy, statistics) if path is not None}
    return trust.sources_of(str(policy).partition(":")[0])


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
