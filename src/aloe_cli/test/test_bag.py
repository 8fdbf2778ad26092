"""`./aloe bag` on real bags: answers, exit codes, one JSON object as the last line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aloe_cli.verbs.bag import app

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src/aloe_core/test"))

from bagmaker import DT, Take, labels, take

CONTRACT = ["--contract", str(ROOT / "config/robots/aloha_sim.yaml")]


def bag(*arguments: object, code: int = 0) -> dict:
    """Run `aloe bag …  --json` and return its last line; the exit code must be `code`."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.strip().splitlines()[-1])


def damage(directory: Path) -> Path:
    file = next(directory.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return directory


@pytest.fixture
def folder(tmp_path):
    """Two whole bags of 60 and 30 steps, and what else may lie in a bag folder."""
    take(tmp_path, "a", steps=60, label_stamp=61 * DT)
    take(tmp_path, "b", steps=30, label_stamp=31 * DT)
    (tmp_path / "trash").mkdir()
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


def test_info_lists_the_labels_of_every_bag_in_a_folder(folder):
    answer = bag("info", folder)
    assert [(Path(row["path"]).name, row["steps"], row["outcome"]) for row in answer["bags"]] == [
        ("a", 60, "success"),
        ("b", 30, "success"),
    ]
    assert answer["outcomes"] == {"success": 2}


def test_check_passes_whole_bags_and_fails_with_code_1_on_a_damaged_one(folder):
    assert bag("check", folder, *CONTRACT)["failed"] == 0
    damage(folder / "b")
    answer = bag("check", folder, *CONTRACT, code=1)
    assert [row["ok"] for row in answer["bags"]] == [True, False]
    assert "damaged" in answer["bags"][1]["errors"][0]


def test_transitions_counts_per_source_and_names_bags_that_cannot_be_used(folder):
    answer = bag("transitions", folder, *CONTRACT, "--horizon", 25)
    assert [(row["policy"], row["terminated"]) for row in answer["bags"]] == [(3, 1), (2, 1)]
    assert answer["transitions"] == 5
    damage(folder / "a")
    answer = bag("transitions", folder, *CONTRACT, "--stride", 10, code=1)
    assert (answer["transitions"], answer["unusable"]) == (3, 1)


def test_recover_is_0_for_whole_3_with_loss_and_1_where_nothing_is_left(folder):
    assert bag("recover", folder)["exit_code"] == 0
    torn = Take(folder, "c", chunk_size=8 << 10)
    torn.run(50)
    torn.writer.sync()
    torn.writer._stream.close()  # as if its process had died
    answer = bag("recover", folder, code=3)
    assert [row["status"] for row in answer["bags"]] == ["clean", "clean", "recovered"]
    assert answer["bags"][2]["messages"] > 100
    assert (folder / "c").is_dir()
    damage(folder / "a")  # one chunk only: all of it is lost
    assert bag("recover", folder / "a", code=1)["bags"][0]["lost_messages"] == 160


def test_trash_moves_by_directory_and_by_episode_and_a_dry_run_moves_nothing(folder):
    other = take(folder, "c", episode_id="01JE0000000000000000000009")
    before = sorted(path.name for path in folder.iterdir())
    planned = bag("trash", folder, "--episode", "01JE0000000000000000000009", "--dry-run")
    assert [move["path"] for move in planned["moved"]] == [str(other)] and planned["dry_run"]
    assert sorted(path.name for path in folder.iterdir()) == before
    bag("trash", folder, "--episode", "01JE0000000000000000000009")
    bag("trash", folder / "a")
    assert sorted(path.name for path in (folder / "trash").iterdir()) == ["a", "c"]
    assert bag("info", folder / "trash" / "c")["bags"][0]["episode_id"] == "01JE0000000000000000000009"
    again = bag("trash", folder, "--episode", "01JE0000000000000000000009", code=2)
    assert "is in trash/ already" in again["error"]


def test_trash_refuses_folders_unknown_episodes_and_takes_that_are_being_written(folder):
    assert "name its episodes with --episode" in bag("trash", folder, code=2)["error"]
    assert "no episode E9 among" in bag("trash", folder, "--episode", "E9", code=2)["error"]
    running = Take(folder, "d")
    running.run(5)
    assert "being recorded right now" in bag("trash", folder / "a", folder / "d.partial", code=2)["error"]
    assert (folder / "a").is_dir(), "nothing is moved where one of them is refused"
    running.writer.close(labels())


@pytest.mark.parametrize("verb", ["info", "check", "recover", "transitions", "trash"])
def test_a_directory_that_is_not_there_is_bad_input(verb, tmp_path):
    words = {"trash": "not a bag"}.get(verb, "no such directory")
    assert words in bag(verb, tmp_path / "nowhere", code=2)["error"]


def test_a_folder_without_bags_is_bad_input(tmp_path):
    assert "neither a bag nor a folder of bags" in bag("info", tmp_path, code=2)["error"]


def test_an_unlabelled_bag_is_bad_input_for_info(tmp_path):
    directory = take(tmp_path, "a")
    (directory / "metadata.yaml").write_text("rosbag2_bagfile_information: {custom_data: null}")
    assert "not a recorded episode" in bag("info", directory, code=2)["error"]


def test_labels_are_those_of_the_writer(tmp_path):
    directory = take(tmp_path, "a", steps=5, intervention_steps=2)
    assert bag("info", directory)["bags"][0]["intervention_steps"] == labels(intervention_steps=2).intervention_steps
