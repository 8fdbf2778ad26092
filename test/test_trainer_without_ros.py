"""The trainer library trains from bags on a machine that has no ROS."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("aloe_core", "aloe_policy", "aloe_critic")

SCRIPT = """
import importlib.util, json, sys
for name in ("rclpy", "aloe_msgs", "std_msgs", "ament_index_python"):
    assert importlib.util.find_spec(name) is None, name
import bagmaker, cv2, numpy as np
from pathlib import Path
from aloe_core.episode.data import Source
from aloe_critic.trainer import TrainRequest, train

out, contract = Path(sys.argv[1]), sys.argv[2]
picture = cv2.imencode(".jpg", np.zeros((96, 96, 3), np.uint8))[1].tobytes()
bagmaker.jpeg = lambda camera, frame: picture
(out / "bags").mkdir()
for number in range(2):
    take = bagmaker.Take(out / "bags", f"take{number}")
    take.run(40, source=int(Source.HUMAN))
    take.writer.close(bagmaker.labels(steps=40))
small = {"threads": 1, "width_head": 32, "keypoints": 4, "critic_width": 16, "bc_batch": 8, "critic_batch": 16}
steps = ("bc_steps", "bc_head_steps", "critic_steps", "actor_steps", "actor_head_steps", "refresh_steps")
few = dict.fromkeys(steps, 3)
for method in ("bc", "aloe_select"):
    request = TrainRequest([str(out / "bags")], str(out / "checkpoints"), contract, method, "", small | few)
    result = train(request)
from aloe_core.contract import load_contract
from aloe_core.types import Observation
from aloe_policy.runtime import load_runtime
robot = load_contract(contract)
images = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in robot.cameras}
answer = load_runtime(result.uri, robot).infer(Observation(0, images, np.zeros(robot.action_dim, np.float32), "go"))
print(json.dumps({"version": result.version, "rows": len(answer.chunk.actions), "candidates": answer.candidates,
                  "ros": sorted(m for m in sys.modules if m.split(".")[0] in ("rclpy", "aloe_msgs"))}))
"""


def is_ros(entry: Path, ros_files: set[str]) -> bool:
    return entry.name in ros_files or entry.name.startswith(("ros_jazzy", "rclpy", "__editable__"))


def site_without_ros(folder: Path) -> Path:
    """A copy of site-packages by links, less every top-level entry that a ROS wheel installed."""
    source = Path(sysconfig.get_path("purelib"))
    ros_files = set()
    for record in source.glob("ros_*.dist-info/RECORD"):
        ros_files |= {line.split("/")[0].split(",")[0] for line in record.read_text().splitlines()}
        ros_files.add(record.parent.name)
    folder.mkdir()
    for entry in source.iterdir():
        if not is_ros(entry, ros_files) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.slow
def test_trainer_clones_and_improves_from_bags_without_ros(tmp_path):
    site = site_without_ros(tmp_path / "site")
    paths = [site, *(ROOT / "src" / p for p in PACKAGES), ROOT / "src" / "aloe_core" / "test"]
    (tmp_path / "script.py").write_text(SCRIPT)
    contract = ROOT / "config" / "robots" / "aloha_sim.yaml"
    # -S keeps the environment's own site-packages out; nothing of the ROS shell set-up is inherited.
    done = subprocess.run(
        [sys.executable, "-S", str(tmp_path / "script.py"), str(tmp_path), str(contract)],
        env={"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"version": "v0002-aloe_select", "rows": 30, "candidates": 8, "ros": []}
