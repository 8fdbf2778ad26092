"""The takeover section: old contracts stay valid, what cannot be driven with is refused with the key named."""

from pathlib import Path

import pytest
import yaml

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError

ALOHA = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
OPTIONAL = ("ramp", "help_button", "pad")
AXES = {"x": {"axis": 1, "speed": 0.1}}
STUCK = {"axis": 1, "rest": 1, "full": 1}


def gripper(pull: dict) -> dict:
    return {"open": {"button": 1}, "close": pull, "speed": 1}


def written(folder: Path, **changes: object) -> Path:
    data = yaml.safe_load(ALOHA.read_text())
    data["takeover"] = {k: v for k, v in data["takeover"].items() if k not in OPTIONAL} | changes
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_contract_without_the_optional_keys_is_valid_and_the_same_robot(tmp_path):
    old = load_contract(written(tmp_path))
    assert old.takeover.pad is None and old.takeover.deadman_buttons == {} and old.takeover.ramp == 0.5
    assert old.hash == load_contract(ALOHA).hash


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deadman_buttons": {"middle": 5}}, "among the joints' groups (left, right), got 'middle'"),
        ({"pad": {"clutch_button": 5, "axes": {}}}, "takeover.pad.axes"),
        ({"pad": {"clutch_button": 5, "axes": AXES, "select_buttons": {"up": 2}}}, "takeover.pad.select_buttons"),
        ({"pad": {"clutch_button": 99, "axes": AXES}}, "takeover.pad.clutch_button = 99"),
        ({"pad": {"clutch_button": 5, "axes": AXES, "gripper": gripper({})}}, "either button or axis"),
        ({"pad": {"clutch_button": 5, "axes": AXES, "gripper": gripper(STUCK)}}, "rest and full that differ"),
    ],
)
def test_what_cannot_be_driven_with_is_refused_and_named(tmp_path, changes, says):
    with pytest.raises(AloeError) as refusal:
        load_contract(written(tmp_path, **changes))
    assert says in str(refusal.value)
