"""`./aloe` as its user meets it: two streams and an exit code. Only what needs a process of its own gets one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aloe_cli import checks
from aloe_cli.__main__ import VERBS
from aloe_cli.checks import Finding, Status
from aloe_core.checkpoint import write_checkpoint
from cli_tools import aloe, fails_in_one_sentence, result

REPOSITORY = Path(__file__).parents[3]


def test_help_names_every_verb_and_is_quick():
    aloe("--help")  # fills the file cache
    before = os.times()
    done = aloe("--help")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 1.5  # s of processor time, which a busy machine hardly changes; 0.5 s here
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


def test_help_imports_no_heavy_package():
    code = (
        "import sys; sys.argv = ['aloe', '--help']\n"
        "from aloe_cli.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'rclpy', 'mujoco', 'numpy', 'cv2'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: set()"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_takes_json_and_debug(verb, run):
    done = run(verb, "--help")
    assert done.returncode == 0, done.stderr
    if "Commands" in done.stdout:
        done = run(verb, next(iter(_commands(done.stdout))), "--help")
    assert "--json" in done.stdout
    assert "--debug" in done.stdout


def _commands(text):
    """Yield the subcommands listed in a help text."""
    lines = iter(text.splitlines())
    for line in lines:
        if "Commands" in line:
            break
    for line in lines:
        words = line.strip("│╰╯─ ").split()
        if words:
            yield words[0]


@pytest.mark.parametrize(
    "words", [["no-such-verb"], ["checkpoint", "list", "--no-such-option"], ["checkpoint", "nope"]]
)
def test_unknown_word_is_bad_input(words):
    assert aloe(*words).returncode == 2


BAD_INPUT = {
    "launch, no file": ["launch", "nope.launch.xml"],
    "launch, python file": ["launch", "--built-in", __file__],
    "launch, malformed argument": ["launch", REPOSITORY / "launch/sim.launch.xml", "task=sorting"],
    "checkpoint, no folder": ["checkpoint", "list", "/nope"],
    "checkpoint, nothing there": ["checkpoint", "show", "/"],
    "eval, no policy": ["eval"],
    "eval, unknown policy": ["eval", "--policy", "dice"],
    "eval, unknown task": ["eval", "--policy", "expert", "--task", "juggling"],
    "eval, unknown level": ["eval", "--policy", "expert", "--level", "impossible"],
    "eval, no contract": ["eval", "--policy", "expert", "--contract", "/nope.yaml"],
    "train, no bags": ["train", "--bags", "/nope", "--out", "{tmp}"],
    "train, unknown method": ["train", "--bags", "{tmp}", "--out", "{tmp}", "--method", "magic"],
    "train, unknown key": ["train", "--bags", "{tmp}", "--out", "{tmp}", "--set", "bc_stepz=3"],
    "train, bad value": ["train", "--bags", "{tmp}", "--out", "{tmp}", "--set", "bc_steps=-3"],
    "train, no value": ["train", "--bags", "{tmp}", "--out", "{tmp}", "--set", "bc_steps"],
    "train, nowhere to publish": ["train", "--bags", "{tmp}", "--out", "{tmp}", "--publish", "https://h/checkpoints"],
    "checkpoint, nowhere to publish": ["checkpoint", "publish", "{tmp}", "s3:bucket"],
    "train, unwritable": ["train", "--bags", "{tmp}", "--out", "/proc/checkpoints"],
}


@pytest.mark.parametrize("words", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_sentence_with_exit_code_2_and_leaves_nothing_behind(words, tmp_path, run):
    work = tmp_path / "work"
    work.mkdir()
    done = run(*(str(word).replace("{tmp}", str(work)) for word in words))
    assert fails_in_one_sentence(done, 2), done.stderr
    assert done.stdout == ""
    assert not list(work.iterdir())


def test_error_under_json_is_an_object_too():
    done = aloe("checkpoint", "list", "/nope", "--json")
    assert fails_in_one_sentence(done, 2)
    assert json.loads(done.stdout) == {"error": "/nope: no such folder.", "exit_code": 2}


def test_debug_shows_where_an_error_comes_from():
    done = aloe("checkpoint", "list", "/nope", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_verb_whose_dependency_is_missing_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = aloe("train", "--bags", "a", "--out", "b", env={"PYTHONPATH": path})
    assert fails_in_one_sentence(done, 1)
    assert "'torch' is not installed; run `make setup`" in done.stderr


def test_defect_is_one_sentence_and_a_traceback_only_under_debug(run, monkeypatch):
    def broken():
        raise RuntimeError("boom")

    monkeypatch.setattr("aloe_cli.verbs.doctor.CHECKS", {"x": broken})
    done = run("doctor")
    assert fails_in_one_sentence(done, 1)
    assert "Unexpected RuntimeError: boom; run it again with --debug" in done.stderr
    assert "in broken" in run("doctor", "--debug").stderr


@pytest.fixture
def folder(tmp_path):
    """A folder with checkpoints v1 and v2 (current), v2 trained from v1, and something else."""
    for step, version in enumerate(("v1", "v2"), start=1):
        write_checkpoint(
            tmp_path / "checkpoints",
            version,
            {"model.safetensors": b"weights"},
            config={},
            norm={},
            contract_hash="0" * 16,
            step=step,
            parent="" if step == 1 else "v1",
            method="bc",
            metrics={"loss": 0.5},
        )
    (tmp_path / "checkpoints" / "notes").mkdir()
    return tmp_path / "checkpoints"


def test_checkpoints_are_listed_with_the_current_one_and_what_is_unusable(folder, run):
    listed = result(run("checkpoint", "list", folder, "--json"))
    assert listed["latest"] == "v2"
    by_name = {row["version"]: row for row in listed["checkpoints"]}
    assert by_name["v2"]["parent"] == "v1"
    assert "manifest.json is missing" in by_name["notes"]["problem"]


def test_show_verifies_the_current_checkpoint(folder, run):
    shown = result(run("checkpoint", "show", folder, "--json"))
    assert (shown["version"], shown["metrics"]) == ("v2", {"loss": 0.5})
    (folder / "v2" / "model.safetensors").write_bytes(b"w3ights")
    done = run("checkpoint", "show", folder)
    assert fails_in_one_sentence(done, 2)
    assert "corrupt" in done.stderr


def test_what_is_published_to_a_url_is_fetched_and_shown(folder, run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"file://{tmp_path}/store"
    published = result(run("checkpoint", "publish", folder, url, "--json"))
    assert (published["uri"], published["version"]) == (f"{url}/v2", "v2")
    shown = result(run("checkpoint", "show", f"simplecache::{url}", "--json"))
    assert (shown["version"], shown["sha256"]) == ("v2", published["sha256"])
    assert shown["path"].startswith(str(tmp_path / "cache"))


def test_rollback_and_promote_move_latest(folder, run):
    assert result(run("checkpoint", "rollback", folder, "--json")) == {
        "folder": str(folder),
        "latest": "v1",
        "previous": "v2",
    }
    assert fails_in_one_sentence(run("checkpoint", "rollback", folder), 2)
    assert result(run("checkpoint", "promote", folder, "v2", "--json"))["previous"] == "v1"
    assert fails_in_one_sentence(run("checkpoint", "promote", folder, "v9"), 2)
    assert (folder / "LATEST").read_text().strip() == "v2"


def test_expert_is_evaluated_on_the_seeds_asked_for(run):
    done = run("eval", "--policy", "expert", "--episodes", 2, "--seed0", 7, "--processes", 1, "--json")
    evaluated = result(done)
    assert list(evaluated["seeds"]) == ["7", "8"]
    assert evaluated["episodes"] == 2
    assert evaluated["success"] == sum(o == "success" for o in evaluated["seeds"].values()) / 2


def test_doctor_fails_only_when_something_needed_is_missing(run, monkeypatch):
    found = {
        "good": lambda: Finding(Status.OK, "here"),
        "spare": lambda: Finding(Status.OPTIONAL, "not here", "Never mind."),
        "vital": lambda: Finding(Status.MISSING, "not here", "Install it."),
    }
    for needed, code in ((found, 1), ({k: v for k, v in found.items() if k != "vital"}, 0)):
        monkeypatch.setattr("aloe_cli.verbs.doctor.CHECKS", needed)
        done = run("doctor", "--json")
        report = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == code
        assert report["missing"] == ["vital"] * code
        assert report["checks"]["spare"] == {"status": "absent", "found": "not here", "advice": "Never mind."}


def test_doctor_names_nodes_that_are_not_installed(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/nope")
    finding = checks.nodes()
    assert finding.status is Status.MISSING
    assert "sim_node" in finding.found
    assert finding.advice == "Run `make setup`."


def test_doctor_reports_the_last_error_line_of_a_check_that_fails(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    finding = checks.rendering()
    assert finding.status is Status.MISSING
    assert "MUJOCO_GL" in finding.found


def test_doctor_sees_the_message_pass():
    assert checks.dds().status is Status.OK


@pytest.fixture
def ros2(tmp_path):
    """Environment in which a program called ros2 prints its arguments and ros2launch is installed."""
    program = tmp_path / "bin" / "ros2"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "ros2 $@"\nexit 7\n')
    program.chmod(0o755)
    marker = tmp_path / "prefix/share/ament_index/resource_index/packages/ros2launch"
    marker.parent.mkdir(parents=True)
    marker.touch()
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "AMENT_PREFIX_PATH": str(tmp_path / "prefix")}


def test_launch_hands_over_to_ros2_launch_where_that_is_installed(ros2, launch_file):
    path = launch_file('<arg name="a"/>')
    done = aloe("launch", path, "a:=1", env=ros2)
    assert done.stdout == f"ros2 launch {path} a:=1\n"
    assert done.returncode == 7


def test_ros2_itself_is_asked_where_the_index_does_not_know_it(ros2, launch_file):
    path = launch_file('<arg name="a" default="1"/>')
    without = {**ros2, "AMENT_PREFIX_PATH": "/nope"}
    assert "there is no node to start" in aloe("launch", path, env=without).stderr  # it answers 7
    program = Path(ros2["PATH"].split(":")[0]) / "ros2"
    program.write_text('#!/bin/sh\necho "ros2 $@"\n')
    assert aloe("launch", path, env=without).stdout == f"ros2 launch {path}\n"


def test_launch_runs_the_file_itself_when_told(ros2, launch_file):
    path = launch_file('<arg name="a" default="1"/>')
    assert "there is no node to start" in aloe("launch", "--built-in", path, env=ros2).stderr


def test_launch_finds_a_file_in_a_package(ros2, tmp_path, launch_file):
    prefix = Path(ros2["AMENT_PREFIX_PATH"])
    (prefix / "share/ament_index/resource_index/packages/pack").touch()
    path = prefix / "share/pack/launch/x.launch.xml"
    path.parent.mkdir(parents=True)
    path.write_text('<launch><arg name="a" default="1" description="a number"/></launch>')
    shown = result(aloe("launch", "pack", "x.launch.xml", "--show-args", "--json", env=ros2))
    assert shown["arguments"] == [{"name": "a", "default": "1", "description": "a number", "choices": []}]


def test_launch_prints_the_commands_without_running_them(launch_file, tmp_path):
    path = launch_file(f'<node exec="/usr/bin/touch" args="{tmp_path}/made"/>')
    shown = result(aloe("launch", "--print", path, "--json"))
    assert shown["nodes"] == [
        {"name": "touch-1", "command": ["/usr/bin/touch", f"{tmp_path}/made", "--ros-args"]},
    ]
    assert not (tmp_path / "made").exists()
