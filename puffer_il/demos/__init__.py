"""Demonstrations: read, check, fit and collect them. `Demos` itself lives in puffer_il.demos.dataset."""

from puffer_il.demos.actions import as_rows
from puffer_il.demos.check import check_fit, describe
from puffer_il.demos.collect import collect
from puffer_il.demos.fields import with_fields
from puffer_il.demos.formats.puffer_il import provenance, read_meta
from puffer_il.demos.judge import doubts, judge
from puffer_il.demos.load import clipped, fit, load_demos, relaid, shipped_path
from puffer_il.demos.pictures import picture_lines
from puffer_il.demos.read import read_demos, read_parts
from puffer_il.demos.subset import first_episodes, first_rows, subsample_rows
from puffer_il.demos.weights import spread

__all__ = ["as_rows", "check_fit", "clipped", "collect", "describe", "doubts", "first_episodes", "first_rows", "fit",
           "judge", "load_demos", "picture_lines", "provenance", "read_demos", "read_meta", "read_parts", "relaid",
           "shipped_path", "spread", "subsample_rows", "with_fields"]
