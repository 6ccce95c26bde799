"""What a detector has found: one line that says where, what, and the remedy."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something about demonstrations that will hurt, or may.

    kind     which detector has found it, for programs: "late-frames"
    what     what is the case, with numbers
    remedy   what to do about it
    episode  the first episode that it is about, row the first row (of all transitions); None where it is about all
    columns  which numbers of an observation or action it is about
    refused  True where the demonstrations cannot be used like this
    """

    kind: str
    what: str
    remedy: str = ""
    episode: int | None = None
    row: int | None = None
    columns: tuple[int, ...] = ()
    refused: bool = False

    @property
    def line(self) -> str:
        """For people; the name of the file goes before it."""
        places = [f"{name} {number}" for name, number in (("episode", self.episode), ("row", self.row))
                  if number is not None]
        where = f"{', '.join(places)}: " if places else ""
        return f"{where}{self.what}{'; ' if self.remedy else ''}{self.remedy}"

    def told(self, file: str) -> dict[str, Any]:
        """For JSON."""
        return {"file": file, **asdict(self), "columns": list(self.columns), "line": self.line}
