"""Pictures on their way into a file."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from puffer_il.envkit import film
from tests.support.command_line import refused

DRAWING = "tests.support.drawing"


@pytest.mark.parametrize("name, words", [
    ("a.jpg", "--out a.jpg: must end in one of .gif, .mp4, .png"),
    ("nowhere/a.gif", "no folder nowhere; make it first"),
    ("a.mp4", "--out a.mp4: needs imageio_ffmpeg; pip install 'puffer-il[render]'")])
def test_files_that_cannot_be_are_refused_before_anything_is_played(capsys, monkeypatch, name, words):
    monkeypatch.setitem(film.KINDS, ".mp4", ("imageio_ffmpeg",))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert words in refused(capsys, "env", "play", "no-such-environment", "--out", name)


def test_a_film_keeps_few_pictures_whatever_its_length(tmp_path):
    film_ = film.Film(tmp_path / "a.png", 10, whole=False)
    for i in range(1000):
        film_.add(np.full((2, 2, 3), i // 4, np.uint8), first=True)
        assert len(film_._kept) <= film.CHOICE
    film_.add(np.zeros((2, 2, 3), np.uint8), first=False)
    assert abs(int(film_._kept[len(film_._kept) // 2][0, 0, 0]) - 125) < 6
