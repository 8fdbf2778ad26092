"""The contract's model: end effectors, arm distance and what inverse kinematics takes from it."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.kinematics import RobotModel, load_model

mujoco = pytest.importorskip("mujoco")

ALOHA = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
JOINTS = [
    {"name": "left_turn", "group": "left", "unit": "rad", "min": -3, "max": 3, "velocity": 2, "acceleration": 50},
    {"name": "left_finger", "group": "left", "unit": "m", "min": 0, "max": 0.1, "velocity": 1, "acceleration": 50},
    {"name": "right_slide", "group": "right", "unit": "m", "min": -1, "max": 1, "velocity": 2, "acceleration": 50},
]
# A pendulum of 0.5 m about z at x = 0 with a gripper, and a ball of 0.1 m radius on a rail along x at y = 1.
MJCF = """<mujoco>
  <worldbody>
    <body name="arm">
      <joint name="left_turn" axis="0 0 1"/>
      <geom type="sphere" size="0.05" pos="0.5 0 0"/>
      <geom type="sphere" size="0.4" pos="0.5 0 0" contype="0" conaffinity="0"/>
      <site name="tip" pos="0.5 0 0"/>
      <body><joint name="left_finger" type="slide" axis="0 1 0"/><geom type="sphere" size="0.01"/></body>
      <body name="other"><joint name="mirrored" type="slide" axis="0 1 0"/><geom type="sphere" size="0.01"/></body>
    </body>
    <body name="ball" pos="0 1 0">
      <joint name="right_slide" type="slide" axis="1 0 0"/><geom type="sphere" size="0.1"/>
    </body>
  </worldbody>
  <equality><joint joint1="mirrored" joint2="left_finger" polycoef="0 -1 0 0 0"/></equality>
</mujoco>"""


def contract_file(folder: Path, **model: object) -> Path:
    data = yaml.safe_load(ALOHA.read_text())
    groups = {"left": {"end_effector": "tip"}, "right": {"end_effector": "ball"}}
    data["joints"], data["model"] = JOINTS, {"file": "arm.xml", "groups": groups, **model}
    (folder / "arm.xml").write_text(MJCF)
    (folder / "robot.yaml").write_text(yaml.safe_dump(data))
    return folder / "robot.yaml"


@pytest.fixture
def robot(tmp_path) -> RobotModel:
    return load_model(load_contract(contract_file(tmp_path)))


def test_end_effectors_are_sites_or_bodies_in_the_base_frame(robot):
    poses = robot.end_effectors(np.array([np.pi / 2, 0.0, 0.3]))
    np.testing.assert_allclose(poses["left"][0], [0, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(poses["left"][1], [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(poses["right"][0], [0.3, 1, 0], atol=1e-12)
    np.testing.assert_allclose(robot.points(np.array([np.pi / 2, 0.0, 0.3]))[1], [0.3, 1, 0], atol=1e-12)
    assert robot.frames == {"left": ("tip", "site"), "right": ("ball", "body")}


def test_a_joint_that_is_not_commanded_follows_its_leader(robot):
    robot.put(np.array([0.0, 0.07, 0.0]))
    np.testing.assert_allclose(robot.data.body("other").xpos, [0, -0.07, 0], atol=1e-12)


def test_distance_is_between_collision_geometry_of_different_arms(robot):
    assert robot.distance(np.array([np.pi / 2, 0.0, 0.0])) == pytest.approx(0.5 - 0.15)
    assert robot.distance(np.array([np.pi / 2, 0.0, 0.0]), farthest=0.2) == 0.2
    assert robot.distance(np.array([0.0, 0.0, 0.3])) == pytest.approx(np.hypot(0.2, 1.0) - 0.15)


@pytest.mark.parametrize("group", ["left", "right"])
def test_the_jacobian_is_the_derivative_of_the_end_effector(robot, group):
    q, step = np.array([0.4, 0.02, -0.3]), 1e-6
    index = robot.groups.index(group)
    numeric = [(robot.points(q + step * e)[index] - robot.points(q - step * e)[index]) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(robot.jacobian(group, q)[:3].T, numeric, atol=1e-8)


def test_a_contract_without_a_model_has_none_and_a_model_changes_no_hash(tmp_path):
    data = yaml.safe_load(contract_file(tmp_path).read_text())
    del data["model"]
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump(data))
    assert load_model(load_contract(bare)) is None
    assert load_contract(bare).hash == load_contract(tmp_path / "robot.yaml").hash


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"file": "nope.xml"}, "nope.xml"),
        ({"file": "package://nowhere/arm.xml"}, "package://nowhere/arm.xml"),
        ({"file": "", "module": "aloe_core.errors"}, "aloe_core.errors"),
        ({"module": "aloe_core.errors"}, "either file or module"),
        ({"groups": {"left": {"end_effector": "elbow"}}}, "elbow"),
        ({"groups": {"third": {"end_effector": "tip"}}}, "third"),
        ({"groups": {"left": {"end_effector": "tip", "workspace": {"min": [0, 0, 1], "max": [1, 1, 1]}}}}, "min below"),
        ({"min_distance": -1}, "min_distance"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name(tmp_path, model, said):
    with pytest.raises(AloeError, match=r"\.$") as caught:
        load_model(load_contract(contract_file(tmp_path, **model)))
    assert said in str(caught.value)


def test_a_joint_that_the_model_lacks_is_named(tmp_path):
    path = contract_file(tmp_path)
    path.write_text(path.read_text().replace("right_slide", "left_slide"))
    with pytest.raises(AloeError, match="left_slide"):
        load_model(load_contract(path))
