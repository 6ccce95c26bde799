"""`python -m tests.faults [WORD …]`: do every fault to real runs, or those whose names have one of the words, and with
--markdown write the table of docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.faults import FAULTS, Row

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = "| fault | run | seen after | message | lost | verdict |\n|---|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--markdown", type=Path, help="the page whose table is written, of these faults and of "
                        "the others in --rows")
    parser.add_argument("--rows", type=Path, default=Path("build/faults.json"), help="where rows are kept")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="puffer_il-faults-") as place:
        for number, fault in enumerate(FAULTS):
            if args.words and not any(word in fault.name for word in args.words):
                continue
            for family in fault.families:
                folder = Path(place) / str(number) / family.replace(" ", "-") / "run"
                begin = time.monotonic()
                try:
                    row = fault.do(family, folder)
                except Exception as error:
                    traceback.print_exc()
                    row = Row(fault.name, family, "", "", "", f"the fault could not be done: {type(error).__name__}",
                              False)
                rows.append(row)
                print(f"{'ok  ' if row.good else 'BAD '} {time.monotonic() - begin:5.1f} s  {line_of(row)}", flush=True)
    every = kept(args.rows, rows)
    if args.markdown:
        write(args.markdown, every)
    return 0 if all(row.good for row in rows) else 1


def line_of(row: Row) -> str:
    message = f"`{row.message}`" if row.message else "–"
    return f"| {row.fault} | {row.run} | {row.seen} | {message} | {row.lost} | {row.verdict} |"


def kept(place: Path, rows: list[Row]) -> list[Row]:
    """All rows in the order of FAULTS, these in place of earlier ones."""
    before = [Row(**row) for row in json.loads(place.read_text())] if place.is_file() else []
    known = {(row.fault, row.run): row for row in (*before, *rows)}
    found = [known[key] for fault in FAULTS for family in fault.families if (key := (fault.name, family)) in known]
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps([vars(row) for row in found], indent=1))
    return found


def write(page: Path, rows: list[Row]) -> None:
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    good = sum(row.good for row in rows)
    table = "\n".join([HEAD, *map(line_of, rows)])
    page.write_text(f"{before}{BEGIN}\nMeasured {datetime.now(UTC):%Y-%m-%d}: {good} of {len(rows)} as they should be."
                    f"\n\n{table}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
