"""Chinese letters in pictures, seen by their pixels."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.learning.plots import picture

MISSING = "\ue123"
"""A character that no font has: it is drawn as the box for a missing glyph."""


def model_picture(label: str) -> bytes:
    return picture(lambda axes: axes.set_xlabel(label), label)


def report_picture(label: str) -> bytes:
    def draw(figure: Any, _colors: Palette) -> None:
        figure.add_subplot().set_xlabel(label)

    return Picture("x", "x", "x", 2.0, draw).png()


@pytest.mark.parametrize("drawn", [model_picture, report_picture])
def test_chinese_letters_are_drawn(drawn: Callable[[str], bytes]) -> None:
    """A chart of a Chinese campaign showed a row of equal boxes."""

    def pixels(label: str) -> Any:
        return np.asarray(Image.open(io.BytesIO(drawn(label))).convert("L"))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph 57635 ")  # the missing one
        if drawn is model_picture:
            warnings.filterwarnings("error", message="Glyph (?!57635 )")
        seen = {label: pixels(label) for label in ("数", "据", "买", MISSING, "x数据 Abc")}
    names = list(seen)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            differs = seen[one].shape != seen[other].shape or (seen[one] != seen[other]).any()
            assert differs, (one, other)
