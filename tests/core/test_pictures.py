"""Pictures: their size, and what they are as PNG and as GIF."""

from __future__ import annotations

import io

import numpy as np
import pytest

from puffer_il.core import pictures
from tests.support.drawing import random_picture


def test_resizing_takes_means_and_repeats():
    ramp = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert np.array_equal(pictures.resized(ramp, 4, 2), ramp)
    assert np.array_equal(pictures.resized(ramp, 2, 2)[0, 0], ramp[:2, 0].mean(0))
    assert np.array_equal(pictures.resized(ramp, 8, 6), ramp.repeat(2, 0).repeat(3, 1))
    assert pictures.shrunk(random_picture(40, 60), 30).shape == (20, 30, 3)
    assert pictures.shrunk(random_picture(40, 60), 90).shape == (40, 60, 3)


def test_a_png_is_what_it_was_made_of():
    image = pytest.importorskip("PIL.Image")
    assert np.array_equal(np.asarray(image.open(io.BytesIO(pictures.png(random_picture())))), random_picture())


@pytest.mark.parametrize("fps, count, shown", [(10, 30, 30), (50, 101, 51), (60, 120, 61), (300, 300, 26)])
def test_a_gif_runs_at_the_speed_of_its_frames(fps, count, shown):
    image = pytest.importorskip("PIL.Image")
    frames = [np.zeros((20, 30, 3), np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[i % 20, i % 30] = 255
    data, told = pictures.gif(frames, fps)
    film = image.open(io.BytesIO(data))
    lengths = []
    for index in range(film.n_frames):
        film.seek(index)
        lengths.append(film.info["duration"])
    assert told == film.n_frames == shown
    assert sum(lengths) - 1000 * pictures.HOLD_S == pytest.approx(1000 * count / fps, abs=20)
    assert min(lengths) >= 20 and film.info["loop"] == 0


def test_a_gif_gives_up_size_before_it_grows(monkeypatch):
    pytest.importorskip("PIL.Image")
    monkeypatch.setattr(pictures, "GIF_BYTES", 20_000)
    still = [pictures.resized(random_picture(4, 6), 400, 600)] * 30  # what does not change costs nothing
    data, shown = pictures.gif(still, 10)
    assert len(data) <= 20_000 and shown == 30
    noise = [pictures.resized(random_picture(20, 30, i), 400, 600) for i in range(30)]
    smaller, fewer = pictures.gif(noise, 10)
    assert fewer < 30 and len(smaller) < 200_000
