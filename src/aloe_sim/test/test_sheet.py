import cv2
import numpy as np
import pytest

from aloe_core.errors import AloeError
from aloe_sim.sheet import COLUMNS, HEIGHT, WIDTH, write_sheet
from sim_tools import ROBOT


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    path = tmp_path_factory.mktemp("sheet") / "made" / "sorting.png"
    write_sheet(ROBOT, "sorting", "easy", path)
    return path


def test_a_sheet_shows_each_camera_in_four_moments_and_two_other_looks(sheet):
    image = cv2.imread(str(sheet))
    height, width, _ = image.shape
    assert width >= COLUMNS * WIDTH
    assert height >= (1 + len(ROBOT.cameras) + 2) * HEIGHT
    assert sheet.stat().st_size < 500_000


def test_its_moments_differ(sheet):
    image = cv2.imread(str(sheet)).astype(int)
    front = image[60 : 60 + HEIGHT - 20]
    step = image.shape[1] // COLUMNS
    tiles = [front[:, i * step + 60 : i * step + WIDTH] for i in range(COLUMNS)]
    for i, one in enumerate(tiles):
        for other in tiles[:i]:
            assert np.abs(one - other).max() > 60


def test_a_sheet_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AloeError, match="cannot be written"):
        write_sheet(ROBOT, "sorting", "easy", tmp_path / "file" / "sorting.png")
