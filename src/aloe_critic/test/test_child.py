import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aloe_core.errors import AloeError
from aloe_critic.child import ENVIRONMENT, TrainingChild

CONTRACT = Path(__file__).parents[3] / "config" / "robots" / "aloha_sim.yaml"


@pytest.fixture(autouse=True)
def fake_trainer_is_importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, sys.path)]))


def request(tmp_path, **overrides):
    return {
        "bag_dirs": ["bags"],
        "checkpoint_dir": str(tmp_path / "out"),
        "contract": str(CONTRACT),
        "method": "bc",
        "init": "",
        "overrides": overrides,
    }


def start(tmp_path, **overrides):
    return TrainingChild(request(tmp_path, **overrides), module="fake_trainer")


def gone(pid):
    """Whether a process has ended; as a grandchild it may linger as a zombie until init reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_progress_comes_first_and_the_result_last(tmp_path):
    events = list(start(tmp_path).events())
    assert events[0] == {"phase": "critic", "step": 1, "steps_total": 2, "loss": 0.5}
    assert events[-1]["result"]["version"] == "v1"
    assert events[-1]["result"]["metrics"]["nice"] == min(19, os.nice(0) + 5)


def test_memory_is_kept_between_steps(tmp_path):
    (*_, last) = start(tmp_path, deed="allocate").events()
    page = os.sysconf("SC_PAGE_SIZE")
    # Twenty times 64 MB: touched anew each time they would be twenty times as many pages.
    assert last["result"]["metrics"]["faults"] < 2 * (64 << 20) / page


@pytest.mark.parametrize("name", [name for name in ENVIRONMENT if name != "OMP_WAIT_POLICY"])
def test_a_training_by_hand_has_the_same(name):
    entry = Path(__file__).parents[3] / "aloe"
    assert f"{name}=${{{name}:-{ENVIRONMENT[name]}}}" in entry.read_text()


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("error", r"^bags: no usable bag\.$"),
        ("crash", "without a result, exit code 1: ZeroDivisionError: no gradient"),
        ("die", "without a result, killed by SIGKILL"),
    ],
)
def test_a_child_that_fails_says_why(tmp_path, deed, says):
    with pytest.raises(AloeError, match=says):
        list(start(tmp_path, deed=deed).events())


@pytest.mark.parametrize("deed", ["hang", "stubborn"])
def test_cancel_ends_the_child_even_one_that_ignores_sigterm(tmp_path, deed):
    child = start(tmp_path, deed=deed)
    events = child.events()
    while next(events)["phase"] != "hanging":
        pass
    threading.Thread(target=child.cancel, kwargs={"grace": 0.2}).start()
    with pytest.raises(AloeError, match="cancelled"):
        list(events)
    assert gone(int((tmp_path / "out" / "child.pid").read_text()))


def test_no_request_file_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    list(start(tmp_path).events())
    assert list(tmp_path.glob("aloe_train_*")) == []


def test_the_child_dies_with_its_parent(tmp_path):
    script = (
        "import json, sys\nfrom aloe_critic.child import TrainingChild\n"
        "child = TrainingChild(json.loads(sys.argv[1]), module='fake_trainer')\n"
        "[print(event['phase'], flush=True) for event in child.events()]\n"
    )
    command = [sys.executable, "-c", script, json.dumps(request(tmp_path, deed="stubborn"))]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    while parent.stdout.readline().strip() != "hanging":
        assert parent.poll() is None
    pid = int((tmp_path / "out" / "child.pid").read_text())
    assert not gone(pid)
    descriptor = os.pidfd_open(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert select.select([descriptor], [], [], 10)[0], "the child outlived its parent"
    os.close(descriptor)
