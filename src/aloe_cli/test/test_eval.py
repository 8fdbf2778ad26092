"""`./aloe eval` as its user meets it: figures, policies that know nothing, bad input, Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from aloe_sim.tasks import TASKS
from cli_tools import aloe, fails_in_one_sentence, result

CONTRACT = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"


def test_the_last_line_has_the_figures_of_the_issue(run):
    found = result(run("eval", "--policy", "expert", "--episodes", 2, "--processes", 1, "--json"))
    assert (found["episodes"], found["successes"], found["success"]) == (2, 2, 1.0)
    assert 0 < found["wilson_low"] < found["wilson_high"] == 1.0
    assert 1.0 < found["mean_length_s"] < 8.0
    assert (found["level"], found["skill"]) == (TASKS["sorting"].levels[0], "perfect")


def test_a_bad_expert_takes_longer_than_a_perfect_one(run):
    words = ["eval", "--policy", "expert", "--episodes", 2, "--processes", 1, "--json"]
    perfect, bad = (result(run(*words, "--skill", skill))["mean_length_s"] for skill in ("perfect", "bad"))
    assert bad > 1.2 * perfect


@pytest.mark.parametrize("policy", ["random", "postures", "zero"])
def test_a_policy_that_knows_nothing_does_not_succeed(run, policy):
    found = result(run("eval", "--policy", policy, "--episodes", 2, "--processes", 1, "--json"))
    assert found["successes"] == 0 and found["mean_length_s"] > 1.0


BAD_INPUT = {
    "task": (["--task", "juggling"], "Unknown task 'juggling'"),
    "level": (["--level", "impossible"], "unknown level 'impossible'"),
    "variant": (["--variant", "purple"], "unknown variant 'purple'"),
    "randomisation": (["--randomisation", "wild"], "Unknown randomisation 'wild'"),
    "skill": (["--skill", "godlike"], "Unknown skill 'godlike'"),
    "skill of no person": (["--policy", "zero", "--skill", "bad"], "only --policy expert"),
    "no episodes": (["--episodes", 0], "episodes = 0"),
    "negative episodes": (["--episodes", -5], "episodes = -5"),
    "negative seed": (["--seed0", -1], "seed0 = -1"),
    "negative processes": (["--processes", -1], "processes = -1"),
    "delay over half the horizon": (["--delay", 16], "delay = 16 control steps: expected 0 to 15"),
    "delay of a person": (["--delay", 3], "a person has none"),
    "chunking of no checkpoint": (["--policy", "zero", "--chunking", "rtc"], "chunking = 'rtc'"),
    "disturbances": (["--disturbances", "/nope.yaml"], "/nope.yaml"),
}


@pytest.mark.parametrize(("words", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_sentence_with_exit_code_2(run, words, said):
    done = run("eval", "--policy", "expert", *words)
    assert fails_in_one_sentence(done, 2), done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def _without_camera(robot):
    robot["cameras"][0]["name"] = "periscope"


def _without_joint(robot):
    robot["joints"].pop()


def _other_joint(robot):
    robot["joints"][0]["name"] = "tail"


def _negative_rate(robot):
    robot["control"]["rate_hz"] = -50


def _negative_camera_rate(robot):
    robot["cameras"][0]["rate_hz"] = -10


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_camera, "no camera 'periscope'"),
        (_without_joint, "no joint 'right_gripper'"),
        (_other_joint, "no joint 'tail'"),
        (_negative_rate, "control.rate_hz = -50"),
        (_negative_camera_rate, "cameras.0.rate_hz = -10"),
    ],
)
def test_a_contract_that_the_station_cannot_serve_is_refused(run, tmp_path, spoil, said):
    done = run("eval", "--policy", "expert", "--contract", spoiled(tmp_path, spoil))
    assert fails_in_one_sentence(done, 2), done.stderr
    assert said in done.stderr


@pytest.mark.slow
def test_the_real_command_refuses_such_a_contract_too(tmp_path):
    done = aloe("eval", "--policy", "expert", "--contract", spoiled(tmp_path, _without_camera))
    assert fails_in_one_sentence(done, 2), done.stderr


def spoiled(folder, spoil):
    robot = yaml.safe_load(CONTRACT.read_text())
    spoil(robot)
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))
    return path


@pytest.fixture
def evaluation():
    """An evaluation that would take minutes, its first episode done, and its worker processes."""
    command = [sys.executable, "-m", "aloe_cli", "eval", "--policy", "zero", "--episodes", "2000", "--processes", "2"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        assert "1/2000" in process.stderr.readline()
        yield process, psutil.Process(process.pid).children(recursive=True)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["group", "parent"])
def test_ctrl_c_ends_an_evaluation_and_all_its_workers(evaluation, whom):
    process, workers = evaluation
    assert len(workers) >= 2
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode not in (0, 2)
    assert "Traceback" not in said
    assert psutil.wait_procs(workers, timeout=10)[1] == []


@pytest.mark.slow
def test_workers_do_not_outlive_an_evaluation_that_was_killed(evaluation):
    process, workers = evaluation
    process.kill()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
