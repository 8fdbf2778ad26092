"""Curves reach TensorBoard always, and a tracker only where one is asked for."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aloe_core.errors import AloeError
from aloe_critic import monitor
from aloe_critic.monitor import Monitor


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch):
    monkeypatch.delenv(monitor.VARIABLE, raising=False)


def curves(folder):
    """Two phases, each of which counts from 0."""
    with Monitor(folder, "run", {"seed": 3}, tracker="wandb" if "wandb" in sys.argv else "") as shown:
        for name in ("loss/cloning", "loss/critic"):
            for step in (9, 19):
                shown.scalar(name, step / 10, step)
        shown.text("events", "nothing happened")


def test_curves_and_texts_are_in_tensorboards_file_and_nothing_else_is_made(tmp_path):
    curves(tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(point.step, round(point.value, 3)) for point in events.Scalars("loss/critic")] == [(9, 0.9), (19, 1.9)]
    assert events.Tags()["tensors"] == ["events/text_summary"]
    assert [file.name.split(".")[0] for file in tmp_path.iterdir()] == ["events"]


@pytest.mark.parametrize("asked", ["parameter", "environment"])
@pytest.mark.parametrize(
    ("wanted", "words"),
    [("spreadsheet", "expected wandb or trackio"), ("trackio", "not installed; pip install trackio")],
)
def test_a_tracker_that_cannot_be_had_is_refused_in_one_sentence(tmp_path, monkeypatch, asked, wanted, words):
    monkeypatch.setattr(monitor.importlib.util, "find_spec", lambda name: None)
    if asked == "environment":
        monkeypatch.setenv(monitor.VARIABLE, wanted)
    with pytest.raises(AloeError, match=words) as caught:
        Monitor(tmp_path, "run", {}, tracker=wanted if asked == "parameter" else "")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_wandb_gets_every_point_with_the_step_of_its_phase(tmp_path, monkeypatch):
    """The real library, which sends nothing in its offline mode; read back from the file it leaves."""
    pytest.importorskip("wandb", reason="wandb is not in the lock: 100 MB for those who ask for it")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    script = (
        f"import sys; sys.argv = ['', 'wandb']; from pathlib import Path; import test_monitor; "
        f"test_monitor.curves(Path({str(tmp_path / 'run')!r}))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=str(__file__).rpartition("/")[0], check=True, timeout=120)
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    rows = [row for row in history(file) if "_step" in row]
    assert [(row["loss/cloning"], row["step/cloning"]) for row in rows[:2]] == [(0.9, 9), (1.9, 19)]
    assert [(row["loss/critic"], row["step/critic"]) for row in rows[2:]] == [(0.9, 9), (1.9, 19)]


def history(file):
    """Rows that wandb would have sent: records of a LevelDB log, all within its first block of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at = file.read_bytes(), 7
    assert len(data) < 1 << 15
    while at < len(data):
        _, length, _ = struct.unpack_from("<IHB", data, at)
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data[at + 7 : at + 7 + length])
        at += 7 + length
        if record.WhichOneof("record_type") == "history":
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
