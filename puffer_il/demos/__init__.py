"""Demonstrations: read, check, fit, write and collect them. `Demos` itself lives in puffer_il.demos.dataset."""

from puffer_il.demos.check import Finding, check_fit, describe, findings
from puffer_il.demos.collect import collect
from puffer_il.demos.exporters import write_imitation, write_minari
from puffer_il.demos.formats.puffer_il import read_meta, write_demos
from puffer_il.demos.importers import read_demos
from puffer_il.demos.load import first_episodes, fit, load_demos, shipped_path, subsample_rows
from puffer_il.demos.weights import spread, weigh

__all__ = ["Finding", "check_fit", "collect", "describe", "findings", "first_episodes", "fit", "load_demos",
           "read_demos", "read_meta", "shipped_path", "spread", "subsample_rows", "weigh", "write_demos",
           "write_imitation", "write_minari"]
