"""Several chunks of one observation: it is encoded once, and each is what LeRobot alone makes of the same noise."""

from __future__ import annotations

import json

import pytest
from lerobot_tools import HORIZON, SAVED, run

pytestmark = pytest.mark.timeout(1800)

FLOWS = [name for name in SAVED if name != "act"]


@pytest.fixture(scope="module")
def all_found(saved):
    return json.loads(run("sample_in_process.py", *(saved / name for name in FLOWS), small=True))


@pytest.fixture(params=FLOWS)
def found(all_found, request):
    """What sample_in_process.py found, of 4 chunks for each of 3 observations by two cameras."""
    return request.param, all_found[request.param]


def test_each_chunk_is_lerobots_own_for_its_observation_and_noise(found):
    _, facts = found
    assert facts["shape"] == [3, 4, HORIZON, 2] and facts["finite"]
    assert facts["from_lerobots"] < 1e-5 and facts["one_with_features"] < 1e-5
    assert facts["apart"] > 0.05, "other noise, another chunk"


def test_each_image_is_encoded_once_for_all_chunks(found):
    name, facts = found
    assert facts["images_encoded"] == 3 * (3 if name == "pi0_third" else 2), "black for a camera that is not there"


def test_a_chunk_depends_on_every_camera_the_state_and_the_words(found):
    name, facts = found
    least = {"smolvla": 5e-5, "smolvla_framed": 3e-5}.get(name, 1e-3)
    assert all(moved > least for moved in facts["moved"].values()), facts["moved"]
    if name == "pi0_relative":
        assert facts["moved"]["state"] > 0.25, "actions relative to the state become absolute by their own state"


def test_a_camera_that_is_not_there_adds_no_features(all_found):
    assert all_found["pi0_third"]["features"] == all_found["pi0"]["features"] == 3 * 48 + 2


def test_pi_as_large_as_it_is_has_the_weights_that_training_expects(offline):
    full = json.loads(run("full_pi.py"))
    for kind, expert, adapters in (("pi0", 314_713_120, 7_063_040), ("pi05", 430_098_464, 9_454_592)):
        facts = full[kind]
        assert facts["weights"] > 4.0e9 and facts["expert"] == expert
        assert facts["adapters"] == adapters and not facts["not_adapted"], "every linear layer of the expert, no other"
        assert facts["features"] == [2, 3 * 2048] and facts["samples"] == [16, 50, 2] and facts["losses"] == [2]
        assert not facts["smaller_runs"], "if LeRobot's smaller one runs, test that in place of small_pi.py"
