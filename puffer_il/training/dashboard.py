"""The dashboard: one logger among the others, drawn by rich in the terminal and left in the scrollback at the end.

`log` only stores; a thread of rich redraws four times a second, so that the clock runs during a long iteration. In a
terminal of 110 columns or more the panels stand in pairs, otherwise below one another; those that do not fit its height
are left out.
"""

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from puffer_il.core.config import Config
from puffer_il.core.spec import Metrics
from puffer_il.core.text import duration, quantity, shown
from puffer_il.training.loggers import Clock, JsonlLogger, Logger, PlainLogger, RunInfo, TensorBoardLogger, TimeLeft
from puffer_il.training.panels import ACCENT, BAD, GOOD, LABEL, WARN, State, applicable, bar, cell
from puffer_il.training.resolve_actor import asks_person

NARROWEST = 60  # characters of a line
WIDE = 110  # characters from which two panels side by side are readable
STATUS = {"finished": GOOD, "interrupted": WARN}


def make_loggers(config: Config, progress: bool = True) -> list[Logger]:
    """metrics.jsonl; with `progress` what is shown, unless somebody is asked at the terminal; TensorBoard if wanted."""
    shown = [terminal_logger()] if progress and not asks_person(config) else []
    return [JsonlLogger(), *shown, *([TensorBoardLogger()] if config.train.tensorboard else [])]


def terminal_logger() -> Logger:
    """The dashboard where the terminal can show it, plain lines elsewhere."""
    console = Console(highlight=False)
    able = (sys.stdout.isatty() and not console.is_dumb_terminal and console.encoding.startswith("utf")
            and console.width >= NARROWEST)
    return Dashboard(console) if able else PlainLogger()


class Dashboard(Logger):
    """A logger that draws the run. `console` and `clock` are for tests; `close` gives the terminal back."""

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        self.console = console or Console(highlight=False)
        self._clock = clock
        self._time_left = TimeLeft(clock)
        self._lock = threading.Lock()  # between log() and the drawing thread
        self._live: Live | None = None
        self._status = ""

    def start(self, run: RunInfo) -> None:
        self._state = State(run)
        self._ended = self._clock()
        self._started = self._ended - run.wall_s
        self._live = Live(self, console=self.console, refresh_per_second=4, vertical_overflow="crop")
        self._live.start()

    def log(self, step: int, metrics: Metrics) -> None:
        with self._lock:
            self._state.add(step, metrics)
            self._time_left.update(metrics.get("progress", 0.0))

    def message(self, text: str) -> None:
        self.console.print(Text(shown(text), WARN if text.lower().startswith("warning") else ""))

    def finish(self, summary: dict[str, Any]) -> None:
        self._status = str(summary["status"])
        self.close()

    def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            self._ended = self._clock()
            self._status = self._status or "failed"
            live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        with self._lock:
            lines = [*self._header(width), *self._progress(width)]
            panels = list(rows(self._state, width))
        for row in panels:
            if len(lines) + len(row) < console.height:
                lines += row
        if self._live:  # the cursor's line: a ^C that the terminal echoes after a full line would shift the picture
            lines.append(Text(""))
        yield Text("\n", no_wrap=True, overflow="crop").join(lines)

    def _header(self, width: int) -> list[Text]:
        """The task, what it learns from, how and where it runs, and a blank line."""
        run = self._state.run
        task = Text.assemble((run.algo, f"bold {ACCENT}"), (" on ", LABEL), (shown(run.env), "bold"))
        where, how = Text(shown(run.run_dir), LABEL), Text(run.setting, LABEL)
        demos = Text("no demonstrations" if run.demos == "none" else shown(run.demos), LABEL)
        return [*_spread(width, task, where), *_spread(width, demos, how), Text("")]

    def _progress(self, width: int) -> list[Text]:
        """A bar above how far, how fast and how long, and a blank line."""
        state, elapsed = self._state, (self._clock() if self._live else self._ended) - self._started
        progress = state.latest.get("progress", 0.0)
        colour = STATUS.get(self._status, BAD) if self._status else ACCENT
        far = Text.assemble(f"{state.step:,}", (f" of {quantity(state.run.total_steps)} {state.run.unit}", LABEL))
        fast = Text.assemble(quantity(state.get("SPS")), (f" {state.run.unit}/s, ", LABEL),
                             quantity(state.get("SPS_mean")), (" mean", LABEL))
        if self._status:
            long = Text(f"{self._status} after {duration(elapsed)}", colour)
        else:
            long = Text.assemble(duration(elapsed), (" since start · ", LABEL), f"{self._time_left}", (" left", LABEL))
        meter = bar(progress, width - 9, colour) + f"{progress:5.0%}"
        return [Text("  ") + meter, *_spread(width, far, fast, long), Text("")]


def rows(state: State, width: int) -> Iterator[list[Text]]:
    """Framed panels as groups of lines: one by one, or in pairs of equal height (an odd one leads, on its own)."""
    shown = applicable(state)
    alone = len(shown) % 2 if width >= WIDE else len(shown)
    for panel in shown[:alone]:
        yield panel(state, width - 4).framed(width)
    widths = (width - 1) // 2, width - 1 - (width - 1) // 2
    for pair in zip(shown[alone::2], shown[alone + 1::2], strict=True):
        panels = [panel(state, half - 4) for panel, half in zip(pair, widths, strict=True)]
        height = max(len(panel.lines) for panel in panels) + 2
        left, right = (panel.framed(half, height) for panel, half in zip(panels, widths, strict=True))
        yield [Text.assemble(a, " ", b) for a, b in zip(left, right, strict=True)]


def _spread(width: int, left: Text, *others: Text) -> list[Text]:
    """One line with a margin of two: the last text at its right end, one between them in the middle.

    If they are too long for that, a line for each.
    """
    texts, inner = (left, *others), width - 4
    spare = inner - sum(text.cell_len for text in texts)
    if spare < 2 * len(others):
        return [Text("  ") + cell(text, inner) for text in texts]
    line = Text("  ") + left
    for i, text in enumerate(others):
        line.append(" " * (spare * (i + 1) // len(others) - spare * i // len(others))).append_text(text)
    return [line]
