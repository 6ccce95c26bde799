"""Errors that a user sees, and the hint at what was meant."""

from difflib import get_close_matches

LONGEST = 2_000  # characters of a line


class InputError(Exception):
    """The user's input was wrong: one line that names the key or file, the value and the remedy (exit code 2)."""

    def __init__(self, text: object = "") -> None:
        super().__init__(joined(str(text)))


class Quit(Exception):
    """A person who is asked has had enough: the run ends here as if it had been interrupted."""


class Discard(Exception):
    """A person who is asked does not want the present episode to be kept."""


class EnvFailure(RuntimeError):
    """An environment or its worker process died; the message holds its traceback or signal (exit code 1)."""


class WorkerKilled(EnvFailure):
    """A worker process was killed from outside: its environments are not to blame, and can repeat what they did."""


class NotFinite(EnvFailure):
    """An environment gave NaN or infinity: one line that says which, where, and what to do (exit code 1)."""


class Diverged(Exception):
    """What is learned has become NaN or infinite: one line that says what."""


def joined(text: str) -> str:
    """A message on one line of at most LONGEST characters, as the names and values in it may have several."""
    one = " ".join(line.strip() for line in text.splitlines())
    return one if len(one) <= LONGEST else f"{one[:LONGEST // 2]} … {one[-LONGEST // 2 + 3:]}"


def one_line(error: BaseException) -> str:
    """The error's own words on one line of at most 300 characters."""
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line: what is unknown, what comes nearest, what there is."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"
