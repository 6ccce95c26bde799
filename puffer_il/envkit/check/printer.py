"""What `env check` shows: what is going on, a line for each check, and a verdict; or the same as JSON."""

import json
import shlex
import sys
import time
from typing import Any

from puffer_il.envkit.check.results import CHECKS, Check, Checks

MARKS = {"ok": "✓", "note": "!", "failed": "✗"}
COLORS = {"ok": "green", "note": "yellow", "failed": "red"}
WIDTH = max(map(len, CHECKS))  # of a name
INDENT = " " * (WIDTH + 4)


class Printer:
    """Lines as they become known; in a terminal with colours, and a spinner that says what is being done."""

    def __init__(self, name: str, as_json: bool) -> None:
        self._name, self._json, self._begin = name, as_json, time.monotonic()
        self._console: Any = None
        self._status: Any = None
        if not as_json and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(highlight=False)
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                self._status = self._console.status("opening it …", spinner="dots")
                self._status.start()

    def doing(self, what: str) -> None:
        if self._status is not None:
            self._status.update(f"{what} …")

    def about(self, text: str) -> None:
        self._line((self._name, "bold"), (f": {text}", ""))
        self._line()

    def show(self, check: Check) -> None:
        """A line about what is fine; what is wrong below, and what to do about it."""
        head = (f"{MARKS[check.status]} {check.name:<{WIDTH}}  ", COLORS[check.status])
        if check.status == "ok":
            says = "" if check.about.startswith("not ") else CHECKS[check.name]
            detail = f"  ({check.about})" if says and check.about else check.about
            self._line(head, (says, ""), (detail, "dim" if check.name != "speed" else ""))
            return
        for finding, after in zip(check.findings, [*check.findings[1:], None], strict=True):
            self._line(head, (finding.text, ""))
            if finding.root:  # one of them will do
                break
            if after is None or after.remedy != finding.remedy:  # the same one once
                self._line((INDENT, ""), (f"→ {finding.remedy}", "cyan"))
            head = (INDENT, "")

    def end(self, checks: Checks, not_run: list[str]) -> int:
        """The verdict, and the exit code."""
        self.close()
        failed, seconds = checks.failed(), time.monotonic() - self._begin
        shown = [checks[name] for name in CHECKS if name in checks]
        if self._json:
            print(json.dumps({"env": self._name, "ok": not failed, "checks": [check.as_json() for check in shown],
                              "not_run": not_run, "seconds": round(seconds, 3)}, indent=2, ensure_ascii=False))
            return 1 if failed else 0
        if not_run:
            self._line((f"– {'not checked':<{WIDTH}}  ", "dim"), (", ".join(not_run), "dim"))
        self._line()
        roots = [(check.name, finding.root) for check in shown for finding in check.findings if finding.root]
        if roots:
            names = ", ".join(dict(roots))
            self._line((f"{names} may follow from {roots[0][1]}: mend that first, and check again", ""))
        notes = [check.name for check in shown if check.status == "note"]
        if failed:
            self._line((f"{len(failed)} of {len(shown)} checks failed", "bold red"),
                       (f": {', '.join(failed)} ({seconds:.1f} s)", ""))
        else:
            look = f", worth a look: {', '.join(notes)}" if notes else ""
            self._line((f"{self._name} keeps to the contract", "bold green"),
                       (f": {len(shown)} checks{look} ({seconds:.1f} s)", ""))
            self._line((f"next: puffer-il env play {shlex.quote(self._name)}", "dim"))
        return 1 if failed else 0

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _line(self, *parts: tuple[str, str]) -> None:
        """A line of texts in styles; in a terminal it is wrapped, beside the first of them where that stands out."""
        if self._json:
            return
        if self._console is None:
            print("".join(text for text, _ in parts).rstrip(), flush=True)
            return
        from rich.text import Text

        hang = len(INDENT) if parts and len(parts[0][0]) == len(INDENT) else 0
        body = Text.assemble(*parts)
        lines = body[hang:].wrap(self._console, max(40, self._console.width) - hang) if body else [body]
        for k, line in enumerate(lines):
            line.rstrip()
            self._console.print((body[:hang] if k == 0 else Text(" " * hang)) + line, soft_wrap=True)
