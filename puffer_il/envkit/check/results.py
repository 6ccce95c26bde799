"""What `env check` finds: the checks in the order in which they are told, and the findings of each."""

from dataclasses import dataclass, field
from typing import Any

CHECKS = {  # name → what it says when there is nothing to say
    "compiles": "without a warning",
    "types": "observations and actions are used as env.toml declares them",
    "runs": "neither crashes nor hangs",
    "memory": "nothing out of bounds, nothing undefined in C",
    "sharing": "nothing is kept outside Env; any split of a batch gives the same",
    "determinism": "the same seed gives the same bytes",
    "initialised": "nothing is read before it is written",
    "observations": "finite, within their space, and they change",
    "rewards": "finite",
    "reset": "nothing is left of the last episode",
    "state": "c_get_state and c_set_state hand over all of it",
    "expert": "within the action space; asking it changes nothing",
    "picture": "shows something, and drawing changes nothing",
    "workers": "any number of processes and threads gives the same rows",
    "gymnasium": "its check_env has nothing against it",
    "speed": "",
}
OF_VECTORS = ("workers", "gymnasium", "speed")  # which Python makes, of C environments too
ROOTS = ("runs", "memory", "sharing", "determinism", "initialised")  # what breaks, and breaks others with it
FOLLOW = ("sharing", "determinism", "initialised", "reset", "state", "workers", "gymnasium")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or with `fatal` False worth a look, and what to do about it.

    `compared`: two things differ that should not, which may be the consequence of something else that is wrong.
    """

    text: str
    remedy: str
    fatal: bool = True
    compared: bool = False
    root: str = ""  # the failed check that it may follow from


@dataclass
class Check:
    """What became of one check; `about` says how much was looked at, or what was measured."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    about: str = ""
    seconds: float = 0.0

    @property
    def status(self) -> str:
        return "failed" if any(finding.fatal for finding in self.findings) else "note" if self.findings else "ok"

    def add(self, text: str, remedy: str, fatal: bool = True, compared: bool = False) -> None:
        """A finding, once."""
        if all(finding.text != text for finding in self.findings):
            self.findings.append(Finding(text, remedy, fatal, compared))

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "about": self.about, "seconds": round(self.seconds, 3),
                "findings": [{"text": finding.text, "remedy": finding.remedy} for finding in self.findings]}


class Checks(dict[str, Check]):
    """Checks by name, made when first asked for."""

    def __missing__(self, name: str) -> Check:
        self[name] = Check(name)
        return self[name]

    def failed(self, *names: str) -> list[str]:
        return [name for name in names or CHECKS if name in self and self[name].status == "failed"]


def at_step(count: int | str) -> str:
    """`after step 1,003`, `at the start`."""
    return f"at step {int(count):,}" if int(count) else "after c_reset"
