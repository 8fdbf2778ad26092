"""What a folder holds is read from its bags: nothing can drift."""

from __future__ import annotations

import shutil

import pytest

from aloe_core.episode.files import move_to_trash
from aloe_core.episode.index import EpisodeIndex
from aloe_core.errors import AloeError
from bagmaker import Take, take


def test_the_next_seed_follows_the_highest_of_the_task_also_in_trash_and_after_changes(tmp_path):
    index = EpisodeIndex(tmp_path / "bags")
    assert index.next_seed("sorting") == 0, "a folder that is not there yet is empty"
    (tmp_path / "bags").mkdir()
    take(tmp_path / "bags", "a", steps=3, seed=4)
    take(tmp_path / "bags", "b", steps=3, seed=9, task="folding")
    assert (index.next_seed("sorting"), index.next_seed("folding"), index.next_seed("packing")) == (5, 10, 0)
    move_to_trash(take(tmp_path / "bags", "c", steps=3, seed=30))
    assert index.next_seed("sorting") == 31
    shutil.rmtree(tmp_path / "bags/trash/c")
    assert index.next_seed("sorting") == 5


def test_torn_foreign_and_damaged_bags_have_no_number(tmp_path):
    Take(tmp_path, "torn").run(2)
    (take(tmp_path, "damaged", steps=2) / "metadata.yaml").write_text("{")
    (take(tmp_path, "foreign", steps=2) / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    assert EpisodeIndex(tmp_path).episodes() == []


def test_an_episode_is_found_by_its_id_or_directory(tmp_path):
    path = take(tmp_path, "a", steps=3, episode_id="E1")
    index = EpisodeIndex(tmp_path)
    assert index.find("E1").path == index.find("a").path == path
    with pytest.raises(AloeError, match="no episode E2 among 1 bags"):
        index.find("E2")
    move_to_trash(path)
    with pytest.raises(AloeError, match="episode E1 is in trash/ already"):
        index.find("E1")
