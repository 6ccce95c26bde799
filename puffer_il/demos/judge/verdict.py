"""All that is said of a file of demonstrations: findings, notes, whether there are enough, and what to learn with."""

from dataclasses import dataclass, field
from typing import Any

from puffer_il.demos.judge.finding import Finding


@dataclass
class Verdict:
    """What was found in `file`, judged against `env` ("" for none).

    needed, transitions  how many transitions cloning would likely need, None where that is not known, and how many
                         there are
    algo, reasons        what suits them, and why; "" where nothing was asked
    """

    file: str
    env: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    needed: int | None = None
    transitions: int = 0
    algo: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def refused(self) -> list[Finding]:
        """Those that forbid the use."""
        return [finding for finding in self.findings if finding.refused]

    @property
    def word(self) -> str:
        return "refused" if self.refused else "usable" if self.findings else "nothing looks wrong"

    def lines(self) -> list[str]:
        """For people, the last with the verdict."""
        warnings = [f"warning: {self.file}: {finding.line}" for finding in self.findings if not finding.refused]
        end = [] if self.refused else [f"{self.file}: {self.word}"]
        return [*(f"note: {note}" for note in self.notes), *warnings, *self.advice(), *end]

    def advice(self) -> list[str]:
        told = []
        if self.needed is not None:
            enough = "there are likely enough" if self.transitions >= self.needed else "likely too few to clone alone"
            told.append(f"enough: cloning needs about {self.needed:,} of such transitions, and there are "
                        f"{self.transitions:,}: {enough}")
        if self.algo:
            told.append(f"algorithm: {self.algo} ({'; '.join(self.reasons)})")
        return told

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {"file": self.file, "env": self.env, "verdict": self.word,
                "findings": [finding.told(self.file) for finding in self.findings], "notes": self.notes,
                "enough": {"needed": self.needed, "transitions": self.transitions},
                "algorithm": {"name": self.algo, "reasons": list(self.reasons)}}
