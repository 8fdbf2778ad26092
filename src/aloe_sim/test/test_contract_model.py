"""The contract's model and the station it stands for are the same robot."""

import numpy as np
import pytest

from aloe_core.contract import load_contract
from aloe_core.kinematics import load_model
from aloe_sim.kinematics import Kinematics
from aloe_sim.robots import robot_for
from sim_tools import CONTRACT


@pytest.mark.parametrize("name", ["aloha_sim", "desk_arm"])
def test_the_contract_s_model_puts_the_hands_where_the_station_has_them(name):
    contract = load_contract(CONTRACT.parent / f"{name}.yaml")
    model, rng = load_model(contract), np.random.default_rng(0)
    kinematics = Kinematics(robot_for(contract), contract.joint_names)
    for _ in range(20):
        q = rng.uniform(contract.lower + 0.05 * (contract.upper - contract.lower), contract.upper)
        q = np.clip(q, contract.lower + 1e-4, contract.upper - 1e-4)
        expected = {group: pose.point for group, pose in kinematics.poses(q).items()}
        for group, (point, _) in model.end_effectors(q).items():
            np.testing.assert_allclose(point, expected[group], atol=1e-5)
