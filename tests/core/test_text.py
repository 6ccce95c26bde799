"""Numbers, durations, facts and tables for people, on terminals of several widths and in pipes."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from puffer_il.core.text import Table, duration, facts, number, quantity, shown


@pytest.mark.parametrize("value, text", [
    (0, "0"), (12345.6, "12,346"), (-1000.4, "-1,000"), (487.25, "487.2"), (22.3, "22.3"), (-9.84, "-9.84"),
    (0.9999, "1.00"), (0.5, "0.500"), (0.0996, "0.100"), (0.0031, "0.0031"), (-2.1e-5, "-2.1e-05"), (math.nan, "–"),
    (math.inf, "inf")])
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize("value, text", [
    (0, "0"), (12, "12"), (950, "950"), (12_345, "12.3k"), (312_000, "312k"), (999_600, "1M"), (1.2e6, "1.2M"),
    (3.06e9, "3.06G"), (0.5, "0.5"), (9.996, "10"), (12.34, "12.3"), (-2.25, "-2.25"), (999.6, "1k"), (2.5e12, "2.5T"),
    (math.nan, "–")])
def test_quantity(value, text):
    assert quantity(value) == text


@pytest.mark.parametrize("seconds, text", [
    (0, "0:00"), (6.6, "0:07"), (59.7, "1:00"), (725, "12:05"), (11045, "3:04:05"), (183_600, "2d 03h"),
    (math.nan, "–:––")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_facts_are_below_one_another():
    assert facts([("time", "1:05"), ("run", "x")]) == ["  time        1:05", "  run         x"]


NUMBERS = Table("title", ("stage", "ms"), [("a", "1.00"), ("  bcd", "10.00")], ["do it with --train.threads 4"])
WORDS = [("one", "two words that are too many for a line of their own")]


def test_a_pipe_gets_aligned_lines_of_any_length(capsys):
    NUMBERS.show()
    assert capsys.readouterr().out.splitlines() == [
        "title", "  stage     ms", "  a       1.00", "    bcd  10.00", "- do it with --train.threads 4"]
    Table("", ("a", "last"), WORDS, layout="wrap").show()
    assert capsys.readouterr().out.splitlines() == ["a    last", f"one  {WORDS[0][1]}"]


def drawn(table: Table, width: int, color: bool = False) -> list[str]:
    out = io.StringIO()
    table.show(Console(file=out, width=width, highlight=False, force_terminal=color,
                       color_system="standard" if color else None))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_terminal_gets_a_head_and_highlighted_flags():
    assert drawn(NUMBERS, 40) == ["title", "stage     ms", "────────────", "a       1.00", "  bcd  10.00",
                                  "• do it with --train.threads 4", ""]
    assert any("\x1b[36m--train.threads 4\x1b[0m" in line for line in drawn(NUMBERS, 40, color=True))


def test_long_words_are_wrapped_or_cut_on_a_terminal():
    wrapped, cut = (drawn(Table("", ("a", "last"), WORDS, layout=layout), 30) for layout in ("wrap", "cut"))
    assert wrapped[2:] == ["one  two words that are too", "     many for a line of their", "     own"]
    assert cut[2:] == ["one  two words that are too m…"]


@pytest.mark.parametrize("width", [64, 80, 100])
def test_a_table_of_numbers_fits_a_narrow_terminal(width):
    table = Table("Title", ("what", *["much"] * 6), [["[not markup] " * 4, *["123.4M"] * 6]], ["A note. " * 30])
    lines = drawn(table, width)
    assert "[not markup]" in "\n".join(lines) and max(map(len, lines)) <= width
    assert sum(line.count("123.4M") for line in lines) == 6


def test_what_would_steer_a_terminal_is_shown_not_sent():
    assert shown("a\x1b[31mb\rc\nd\u202ee\x9bf") == r"a\x1b[31mb\rc\nd\u202ee\x9bf"
    assert shown("Grüße ± 3 – 寿") == "Grüße ± 3 – 寿"
    assert facts([("note\x1b", "\x1b]0;title\x07")]) == [r"  note\x1b    \x1b]0;title\x07"]
