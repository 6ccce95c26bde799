"""What there is to see of an environment: pictures, text, images, numbers."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.envkit.viewer import Viewer, _colored

DRAWING = "tests.support.drawing"


def viewer(name: str, **kwargs) -> Viewer:
    return Viewer(name, kwargs, seed=0)


def test_an_environment_is_seen_as_picture_text_image_or_numbers():
    here = f"{DRAWING}:"
    assert viewer("cartpole").view().ndim == 3 and viewer("cartpole").at_once
    assert viewer(f"{here}Drawing", broken=False).view().tolist() == np.full((4, 6, 3), 9).tolist()
    broken = viewer(f"{here}Drawing")
    assert broken.view() == ["as text"] and broken.picture() is None
    assert broken.notice == "no picture: no screen in here"
    assert broken.fps == 4 and not broken.at_once
    assert viewer(f"{here}Plain").picture().tolist() == np.full((6, 8, 3), 7).tolist()
    lines = viewer(f"{here}Numbers").view(60, 10)
    assert [line.split()[0] for line in lines] == ["speed[0]", "speed[1]"] and lines[0].endswith("0.5")
    assert viewer("FrozenLake-v1", render_mode="ansi").view()[-4:][3].endswith("HFFG")


def test_an_environment_that_was_made_without_a_render_mode_is_asked_to_draw():
    assert viewer(f"{DRAWING}:without_a_mode").picture().shape == (400, 600, 3)
    assert viewer("gymnasium:CartPole-v1").picture().shape == (400, 600, 3)
    broken = viewer(f"{DRAWING}:drawing_without_a_mode")
    assert broken.notice == "no picture: no screen in here" and broken.view()[0].startswith("speed[0]")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (1, 5, 7), (4, 5, 7), (5, 7, 4), (5, 7, 3), (3, 5, 7)])
def test_images_in_any_layout_become_pictures(shape):
    assert _colored(np.zeros(shape, np.uint8)).shape == (5, 7, 3)
    assert _colored(np.ones(shape, np.float32)).max() == 255
    assert _colored(np.zeros(5, np.uint8)) is None
