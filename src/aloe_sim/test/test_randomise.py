import colorsys

import numpy as np
import pytest

from aloe_core.errors import AloeError
from aloe_sim.scene import CLOTH_BIT
from aloe_sim.station import Station
from aloe_sim.tasks.cloth import FRICTION
from sim_tools import ROBOT, drive


@pytest.fixture(scope="module")
def stations():
    made = {level: Station(ROBOT, level="two", randomisation=level) for level in ("none", "low", "high")}
    yield made
    for station in made.values():
        station.close()


def look(station: Station) -> dict[str, np.ndarray]:
    m = station.model
    fields = ("geom_rgba", "geom_matid", "cam_pos", "cam_quat", "cam_fovy", "geom_friction", "light_dir")
    return {name: getattr(m, name).copy() for name in fields} | {"ambient": m.vis.headlight.ambient.copy()}


def test_the_start_state_and_the_words_do_not_change_with_the_level(stations):
    for seed in range(5):
        starts = set()
        for station in stations.values():
            station.reset(seed)
            starts.add((station.snapshot().tobytes(), station.instruction))
        assert len(starts) == 1


def test_without_randomisation_the_model_never_changes(stations):
    station = stations["none"]
    looks = []
    for seed in (0, 1):
        station.reset(seed)
        looks.append(look(station))
    for name, values in looks[0].items():
        np.testing.assert_array_equal(values, looks[1][name], err_msg=name)


@pytest.mark.parametrize("level", ["low", "high"])
def test_every_seed_looks_different_and_the_same_again(stations, level):
    station = stations[level]
    looks, frames = [], []
    for seed in (3, 4, 3):
        station.reset(seed)
        looks.append(look(station))
        frames.append({name: station.render(name).copy() for name in ROBOT.camera_names})
    for name in looks[0]:
        np.testing.assert_array_equal(looks[0][name], looks[2][name], err_msg=name)
        if name != "geom_matid":  # few to choose from
            assert (looks[0][name] != looks[1][name]).any(), name
    for name in ROBOT.camera_names:
        np.testing.assert_array_equal(frames[0][name], frames[2][name])
        assert (frames[0][name] != frames[1][name]).mean() > 0.5, name


def test_it_is_always_about_the_nominal_values(stations):
    nominal, station = look(stations["none"]), stations["high"]
    cameras = [station.model.camera(name).id for name in ROBOT.camera_names]
    for seed in range(60):
        station.reset(seed)
        assert np.abs(station.model.cam_pos[cameras] - nominal["cam_pos"][cameras]).max() <= 0.006 + 1e-12
        assert np.abs(station.model.cam_fovy[cameras] / nominal["cam_fovy"][cameras] - 1).max() <= 0.05 + 1e-12
        for geom in ("red_block", "vx300s_left/left_pad"):
            ratio = station.model.geom(geom).friction / stations["none"].model.geom(geom).friction
            assert np.ptp(ratio) < 1e-9 and 0.7 <= ratio[0] <= 1.3


def test_a_towel_s_friction_varies_as_one():
    station = Station(ROBOT, "laundry_folding", render=False, randomisation="high")
    nominal = np.array(FRICTION)
    ratios = set()
    for seed in range(4):
        station.reset(seed)
        towel = station.model.geom_contype & CLOTH_BIT > 0
        ratio = station.model.geom_friction[towel] / nominal
        assert towel.sum() == 81 and np.ptp(ratio) < 1e-9 and 0.7 <= ratio[0, 0] <= 1.3
        ratios.add(round(float(ratio[0, 0]), 6))
    assert len(ratios) == 4


def test_the_table_s_texture_really_shows(stations):
    station = stations["high"]
    seen = {False: [], True: []}
    for seed in range(30):
        station.reset(seed)
        textured = station.model.geom("table").matid[0] >= 0
        patch = station.view("top", 192, 192)[150:, :].astype(float).mean(axis=2)
        seen[bool(textured)].append(np.abs(np.diff(patch, axis=1)).mean())
    assert seen[False] and seen[True]
    assert min(seen[True]) > 2 * max(np.median(seen[False]), 0.2)


def test_red_stays_red_and_green_green(stations):
    for level in ("low", "high"):
        station = stations[level]
        for seed in range(20):
            station.reset(seed)
            for item, hue in (("red_block", 0.0), ("green_block", 0.35)):
                rgb = station.model.geom(item).rgba[:3]
                assert colorsys.rgb_to_hsv(*rgb)[0] == pytest.approx(hue, abs=0.03)


def test_the_expert_still_does_it(stations):
    for seed in range(4):
        stations["high"].reset(seed)
        drive(stations["high"], 14.0)
        assert stations["high"].success


def test_an_unknown_level_says_what_there_is():
    with pytest.raises(AloeError, match="Unknown randomisation 'wild': expected one of none, low, high"):
        Station(ROBOT, render=False, randomisation="wild")
