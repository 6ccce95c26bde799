"""Pictures on their way into a file: PNG by itself, GIF with pillow, MP4 with imageio's ffmpeg."""

from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.pictures import GIF_RATE, GIF_WIDTH, gif, needed, png, shrunk
from puffer_il.core.spec import Array

KINDS = {".gif": ("PIL.Image",), ".mp4": ("imageio.v2", "imageio_ffmpeg"), ".png": ()}  # and what they need
CHOICE = 128  # pictures from which the one for a PNG is chosen


def check_path(path: Path) -> Path:
    """`path`, if such a file can be written here; to be asked before anything is played."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"--out {path}: must end in one of {', '.join(KINDS)}")
    if not path.expanduser().parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}; make it first")
    for module in KINDS[kind]:
        needed(module, path)
    return path.expanduser()


class Film:
    """Takes pictures one by one and keeps no more of them than the file needs.

    A PNG shows the middle of the first episode, or the last picture if `whole`; the others show everything.
    """

    def __init__(self, path: Path, fps: float, whole: bool) -> None:
        self.path, self.kind, self.fps, self._whole = path, path.suffix.lower(), fps, whole
        self._every = max(1, round(fps / GIF_RATE)) if self.kind == ".gif" else 1
        self._count, self._kept = 0, list[Array]()
        self._writer: Any = None

    def add(self, picture: Array, first: bool) -> None:
        """`first`: it belongs to the first episode."""
        if self.kind == ".mp4":
            self._writer = self._writer or needed("imageio.v2", self.path).get_writer(
                self.path, fps=self.fps, macro_block_size=1, ffmpeg_log_level="error")
            height, width = (n // 2 * 2 for n in picture.shape[:2])  # ffmpeg halves the colours in both directions
            self._writer.append_data(np.ascontiguousarray(picture[:height, :width]))
        elif self.kind == ".png" and self._whole:
            self._kept = [picture]
        elif self._count % self._every == 0 and (first or self.kind == ".gif"):
            self._kept.append(shrunk(picture, GIF_WIDTH) if self.kind == ".gif" else picture)
        if self.kind == ".png" and len(self._kept) == CHOICE:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self._count += 1

    def save(self) -> str:
        """Write the file and say what is in it."""
        what = f"{self._count / self.fps:.1f} s"
        if self.kind == ".png":
            chosen = self._kept[len(self._kept) // 2]
            self.path.write_bytes(png(chosen))
            what = f"{chosen.shape[1]}×{chosen.shape[0]}"
        elif self.kind == ".gif":
            data, shown = gif(self._kept, self.fps / self._every)
            self.path.write_bytes(data)
            what = f"{shown} pictures, {what}"
        else:
            self._writer.close()
            what = f"{self._count} pictures, {what}"
        return f"{self.path}: {what}, {-(-self.path.stat().st_size // 1000):,} kB"
