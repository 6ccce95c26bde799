"""Every fault as a test; and the table that they make."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.__main__ import BEGIN, END, kept, write
from tests.faults.faults import FAULTS, Fault, Row
from tests.faults.runs import Live, orphans
from tests.support.runs import tiny

EVERY = [(fault, family) for fault in FAULTS for family in fault.families]


def row(fault: Fault, verdict: str) -> Row:
    return Row(fault.name, fault.families[0], "1 s", "it said so", "nothing", verdict, True)


def test_faults_have_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_table_keeps_the_page_around_it_and_the_rows_of_faults_that_were_not_done(tmp_path):
    page, rows = tmp_path / "page.md", tmp_path / "rows.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    kept(rows, [row(FAULTS[1], "old"), row(FAULTS[0], "other")])
    write(page, kept(rows, [row(FAULTS[1], "new")]))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.index("| other |") < text.index("| new |") and "2 of 2 as they should be" in text


def test_a_process_that_lives_on_is_found(tmp_path):
    live = Live(tiny("ppo", tmp_path / "run"))
    time.sleep(0.05)
    assert live.process.poll() is not None or orphans([live.process.pid], 0.1) == [live.process.pid]
    live.process.kill()
    assert live.end() and not orphans([live.process.pid])


@pytest.mark.slow
@pytest.mark.parametrize("fault, family", EVERY, ids=[f"{fault.name}, {family}" for fault, family in EVERY])
def test_every_fault_ends_as_it_should(tmp_path: Path, fault: Fault, family: str) -> None:
    found = fault.do(family, tmp_path / "fault" / "run")
    assert found.good, found
