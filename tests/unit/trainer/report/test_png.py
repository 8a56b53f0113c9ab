from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune_trainer.report import beside_model
from finetune_trainer.report.figure import Bar, Drawing, Line, Mark, Words
from finetune_trainer.report.png import DENSITY, png
from unit.trainer.report.runs import hostile_run, long_run

TRAIN, VALID = (36, 86, 200), (192, 82, 6)


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")


def near(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """How many pixels have about this colour."""
    close = np.abs(np.asarray(image, dtype=int) - np.array(colour)).max(axis=2) < 24
    return int(close.sum())


def test_the_curves_are_in_the_picture_in_their_colours(tmp_path: Path) -> None:
    found = beside_model(*long_run(tmp_path))
    image = opened(found["loss.png"])
    assert image.size == (1400, 560)
    assert near(image, TRAIN) > 2000
    assert near(image, VALID) > 2000
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert len(found["loss.png"]) < 100_000


def test_the_same_run_is_the_same_picture(tmp_path: Path) -> None:
    run, workspace = long_run(tmp_path, steps=50)
    assert beside_model(run, workspace) == beside_model(run, workspace)


def test_shapes_stand_where_the_drawing_has_them() -> None:
    marks: list[Mark] = [Bar(10, 10, 20, 5, "bar train"), Line([(0, 30), (60, 30)], "curve valid")]
    image = opened(png(Drawing(60, 40, "", marks)))
    assert image.size == (60 * DENSITY, 40 * DENSITY)
    assert near(image.crop((21, 21, 59, 29)), TRAIN) == 38 * 8
    assert near(image.crop((0, 59, 120, 61)), VALID) == 240
    assert near(image, VALID) < 600


@pytest.mark.parametrize("text", ["", "日本語", "a\nb", "\U0001f600" * 40], ids=repr)
def test_any_words_can_be_painted(text: str) -> None:
    assert opened(png(Drawing(40, 20, "", [Words(5, 15, text)]))).size == (80, 40)


def test_a_run_that_wishes_harm_has_a_picture(tmp_path: Path) -> None:
    assert set(beside_model(*hostile_run(tmp_path))) == {"report.html", "loss.png"}


def test_a_run_without_a_curve_has_a_report_and_no_picture(tmp_path: Path) -> None:
    run, workspace = long_run(tmp_path, steps=9)
    workspace.history.unlink()
    assert set(beside_model(run, workspace)) == {"report.html"}
