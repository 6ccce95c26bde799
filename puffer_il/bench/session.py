"""One `puffer-il bench`: it says what it is doing, keeps what it has measured when it is interrupted, writes files."""

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puffer_il.bench.limits import machine
from puffer_il.bench.measure import Say
from puffer_il.bench.tables import describe
from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.core.text import Table
from puffer_il.kernels.threads import cores

Data = dict[str, Any]
INTERRUPTED = 130


class Session:
    """What is measured, in `data`, and where it goes: tables on the terminal, --json and --markdown."""

    def __init__(self, args: Namespace, data: Data, page: Callable[[Data], str]) -> None:
        self.args, self.page = args, page
        self.data = {"machine": machine(cores(), args.typed), **data, "interrupted": True}
        for path in (args.json, args.markdown):
            if path is not None:
                check_writable(path)

    def run(self, work: Callable[[Say], None], tables: Callable[[Data], list[Table]]) -> int:
        """Do the work, show its tables, write the files. 130 if it was interrupted, having kept what there was."""
        print(describe(self.data["machine"]), flush=True)
        try:
            with progress() as say:
                work(say)
            self.data["interrupted"] = False
        except KeyboardInterrupt:
            print("puffer-il: interrupted; the measurements so far are kept", file=sys.stderr)
        for table in tables(self.data):
            table.show()
        self.save()
        return INTERRUPTED if self.data["interrupted"] else 0

    def save(self) -> None:
        if self.args.json:
            checkpoint.write_json(self.args.json, self.data)
        if self.args.markdown:
            checkpoint.write_text(self.args.markdown, self.page(self.data))


def check_writable(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path} cannot be written ({reason}); choose another file") from None


@contextmanager
def progress() -> Iterator[Say]:
    """Says what is being measured: in place on a terminal, else line by line, on stderr."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(stderr=True)
    if not console.is_terminal:
        begin = time.perf_counter()
        yield lambda text: print(f"[{time.perf_counter() - begin:6.1f} s] {text}", file=sys.stderr, flush=True)
        return
    column = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    with Progress(SpinnerColumn(), TimeElapsedColumn(), column, console=console, transient=True,
                  refresh_per_second=2) as bar:  # drawing takes time from what is measured
        task = bar.add_task("", total=None)
        yield lambda text: bar.update(task, description=text)
