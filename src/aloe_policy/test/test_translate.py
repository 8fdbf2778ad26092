"""Names and layout of a policy server: what it is sent, what its numbers mean."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.types import Observation
from aloe_policy.remote.mapping import Mapping, default_mapping, load_mapping
from aloe_policy.remote.translate import Translator
from tiny_policy import tiny_contract

STATE = np.array([0.5, -1.0], np.float32)


def translator(document=None, images=None):
    contract = tiny_contract()
    mapping = Mapping.model_validate(document) if document else default_mapping(contract)
    return Translator(mapping, contract, images)


def observation(**images):
    grey = {name: np.full((24, 32, 3), 100, np.uint8) for name in ("front", "wrist")}
    return Observation(stamp=0, images=grey | images, state=STATE, instruction="sort")


def positions(document, rows):
    return translator({"cameras": {}, "actions": document}).positions(np.asarray(rows), STATE, "It")


def test_without_a_mapping_the_names_are_those_of_this_suite():
    request = translator().observation(observation())
    assert set(request) == {"observation/front", "observation/wrist", "observation/state", "prompt"}
    assert request["observation/front"].shape == (24, 32, 3) and request["prompt"] == "sort"
    np.testing.assert_array_equal(request["observation/state"], STATE)


def test_the_server_says_which_size_it_wants_and_the_mapping_may_say_another():
    images = {"observation/front": (48, 48), "observation/wrist": (48, 48)}
    assert translator(None, images).observation(observation())["observation/front"].shape == (48, 48, 3)
    document = {"cameras": {"front": {"key": "observation/front", "size": [10, 20]}}}
    assert translator(document, images).observation(observation())["observation/front"].shape == (10, 20, 3)


def test_padding_keeps_the_aspect_and_stretching_does_not():
    camera = {"key": "image", "size": [32, 32]}
    padded = translator({"cameras": {"front": camera}}).observation(observation())["image"]
    assert (padded[4:28] == 100).all() and (padded[:4] == 0).all() and (padded[28:] == 0).all()
    stretched = translator({"cameras": {"front": camera | {"fit": "stretch"}}}).observation(observation())["image"]
    assert (stretched == 100).all()


def test_aloha_of_openpi_gets_nested_images_with_channels_first():
    document = {
        "cameras": {"front": {"key": ["images", "cam_high"], "layout": "chw", "size": [24, 24]}},
        "state": {"key": "state"},
    }
    request = translator(document).observation(observation())
    assert request["images"]["cam_high"].shape == (3, 24, 24)
    assert set(request) == {"images", "state", "prompt"}


def test_the_state_is_sent_in_the_servers_order_and_units():
    joints = ["elbow", {"joint": "shoulder", "scale": 10.0, "offset": 1.0}]
    request = translator({"cameras": {}, "state": {"key": "state", "joints": joints}}).observation(observation())
    np.testing.assert_allclose(request["state"], [-1.0, 6.0])


def test_columns_are_put_in_the_contracts_order_and_unnamed_ones_dropped():
    rows = np.tile([1.0, 9.0, 2.0], (8, 1))
    np.testing.assert_allclose(positions({"columns": ["elbow", None, "shoulder"]}, rows), np.tile([2.0, 1.0], (8, 1)))


def test_units_of_a_column_are_undone():
    rows = np.tile([6.0, 0.0], (8, 1))
    columns = [{"joint": "shoulder", "scale": 10.0, "offset": 1.0}, "elbow"]
    np.testing.assert_allclose(positions({"columns": columns}, rows)[:, 0], 0.5)


def test_deltas_add_to_the_observed_position_and_steps_to_the_row_before():
    rows = np.full((8, 2), 0.1)
    columns = [{"joint": "shoulder", "kind": "delta"}, {"joint": "elbow", "kind": "step"}]
    got = positions({"columns": columns}, rows)
    np.testing.assert_allclose(got[:, 0], 0.6, rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], -1.0 + 0.1 * np.arange(1, 9), rtol=1e-6)


def test_joints_without_a_column_stay_where_they_are_if_the_mapping_says_so():
    got = positions({"columns": ["elbow"], "rest": "hold"}, np.zeros((8, 1)))
    np.testing.assert_allclose(got, np.tile([0.5, 0.0], (8, 1)))


def test_rows_at_another_rate_are_interpolated():
    rows = np.arange(3)[:, None] * [1.0, -1.0]  # 10 a second, for control at 50 Hz: 8 steps are 1.4 rows
    np.testing.assert_allclose(positions({"rate_hz": 10}, rows)[:, 0], np.arange(8) * 0.2, atol=1e-6)


def test_a_longer_chunk_is_cut_to_the_horizon():
    rows = np.arange(50)[:, None] * [1.0, 1.0]
    assert positions({}, rows)[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((5, 2)), "has 5 rows: expected at least 8 for the 8 control steps of contract tiny"),
        (np.zeros((8, 3)), "expected rows of 2 numbers"),
        (np.zeros(8), "expected rows of 2 numbers"),
        (np.full((8, 2), "x"), "expected rows of 2 numbers"),
        (np.full((8, 2), np.nan), "is not finite"),
    ],
)
def test_what_cannot_be_a_chunk_is_refused_in_a_sentence(rows, said):
    with pytest.raises(AloeError, match=said):
        positions({}, rows)


@pytest.mark.parametrize("kind", ["absolute", "delta", "step"])
def test_a_chunk_for_training_is_what_the_server_would_have_answered_for_it(kind):
    elbow = {"joint": "elbow", "scale": -2.0, "offset": 0.5 if kind == "absolute" else 0.0, "kind": kind}
    both = translator({"cameras": {}, "actions": {"columns": [elbow, {"joint": "shoulder", "kind": kind}]}})
    chunk = np.random.default_rng(0).normal(0, 1, (8, 2)).astype(np.float32)
    rows = both.numbers(chunk, STATE)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(both.positions(rows, STATE, "It"), chunk, atol=1e-5)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"columns": ["elbow", None, "shoulder"]}, "a column of nothing"),
        ({"rate_hz": 25}, "at the contract's control rate only"),
    ],
)
def test_a_mapping_that_loses_something_cannot_be_trained_through(document, said):
    with pytest.raises(AloeError, match=said):
        translator({"cameras": {}, "actions": document}).numbers(np.zeros((8, 2), np.float32), STATE)


def test_the_mapping_for_openpis_aloha_has_its_gripper_scale_both_ways():
    root = Path(__file__).parents[3]
    contract = load_contract(root / "config/robots/aloha_sim.yaml")
    aloha = Translator(load_mapping(root / "config/servers/openpi_aloha_sim.yaml", contract), contract)
    state = ((contract.lower + contract.upper) / 2).astype(np.float32)
    state[contract.joint_names.index("left_gripper")] = 0.058
    request = aloha.observation(Observation(0, {"top": np.zeros((96, 96, 3), np.uint8)}, state, ""))
    assert request["images"]["cam_high"].shape == (3, 224, 224)
    assert request["state"][6] == pytest.approx(1.0, abs=1e-3), "open"
    np.testing.assert_allclose(aloha.positions(np.tile(request["state"], (50, 1)), state, "It")[-1], state, atol=1e-6)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "expected a mapping with cameras"),
        ({"cameras": {"side": {"key": "x"}}}, "cameras = 'side': expected one of front, wrist"),
        ({"cameras": {"front": {"key": "x", "layout": "cwh"}}}, "layout = 'cwh': expected 'hwc' or 'chw'"),
        ({"cameras": {}, "state": {"joints": ["knee"]}}, "'knee': expected one of shoulder, elbow"),
        ({"cameras": {}, "state": {"joints": [{"joint": "elbow", "kind": "step"}]}}, "kind absolute"),
        ({"cameras": {}, "actions": {"columns": ["elbow"]}}, "lacks 'shoulder'"),
        ({"cameras": {}, "actions": {"columns": ["elbow", "elbow"]}}, "each once"),
        ({"cameras": {}, "actions": {"columns": [{"joint": "elbow", "scale": 0}]}}, "a finite scale other than 0"),
        ({"cameras": {}, "speed": 3}, "speed = 3: expected"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_file_key_and_value(tmp_path, document, said):
    path = tmp_path / "server.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(AloeError, match=said) as error:
        load_mapping(path, tiny_contract())
    assert str(path) in str(error.value)
