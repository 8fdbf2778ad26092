"""Random timelines: no rule is broken, and a broken arbiter does not go unnoticed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import TRANSITIONS, LateChunk, Mode, Trigger
from aloe_core.motion import Clamp, Motion
from aloe_core.playback import Playback
from aloe_core.safety import SafetyFilter
from aloe_core.timelines import Tally, play
from aloe_core.types import Chunk

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")


def tally(timelines: int, ticks: int = 100) -> Tally:
    found = Tally()
    for seed in range(timelines):
        play(CONTRACT, seed, ticks, found)
    return found


def test_random_timelines_break_no_rule_and_reach_every_corner():
    found = tally(40)
    assert found.violations == {} and found.seeds == []
    assert found.timelines == 40 and found.ticks > 3000 and found.changes > 100
    assert 0 < found.jump <= CONTRACT.velocity.max() * CONTRACT.dt + 1e-9


def test_a_chunk_that_comes_again_under_a_new_stamp_does_not_pass_for_a_new_one():
    """Found by 10,000 timelines: its rows went on until they were too old for the observation they were made from."""
    found = Tally()
    play(CONTRACT, 9569, 250, found)
    assert found.violations == {}
    playback = Playback(CONTRACT, lockstep=False, late=LateChunk.HOLD)
    rows = np.zeros((CONTRACT.chunk.horizon, CONTRACT.action_dim), np.float32)
    first, second = (Chunk(str(n), n * 10**8, CONTRACT.dt, rows + n, CONTRACT.chunk.execute, "v") for n in (1, 2))
    assert playback.take(first) and playback.take(second)
    assert not playback.take(replace(first, stamp=3 * 10**8))
    assert playback.row(3 * 10**8).chunk is second
    assert playback.take(second), "the same message twice is no harm"


def test_a_seed_names_one_timeline():
    one, other = Tally(), Tally()
    play(CONTRACT, 7, 80, one)
    play(CONTRACT, 7, 80, other)
    assert one == other


def without_fence(patch) -> None:
    patch.setattr(Playback, "fence", lambda self, stamp: None)


def without_filter(patch) -> None:
    def unlimited(self, wanted, last):
        return Motion(np.clip(np.nan_to_num(wanted), -9, 9), last.velocity, wanted), Clamp.NONE

    patch.setattr(SafetyFilter, "apply", unlimited)


def estop_ends_by_itself(patch) -> None:
    patch.setitem(TRANSITIONS, (Mode.ESTOP, Trigger.PRESS), Mode.HUMAN)


def no_estop_while_a_person_drives(patch) -> None:
    patch.delitem(TRANSITIONS, (Mode.HUMAN, Trigger.ESTOP))


def without_teleop_watchdog(patch) -> None:
    patch.setattr(Arbiter, "_watch_teleop", lambda self: None)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_fence, "fenced"),
        (without_filter, "velocity limit"),
        (estop_ends_by_itself, "without a reset"),
        (no_estop_while_a_person_drives, "did not stop"),
        (without_teleop_watchdog, "too old"),
    ],
)
def test_a_damaged_arbiter_is_found_out(monkeypatch, damage, said):
    damage(monkeypatch)
    found = tally(30)
    assert any(said in violation for violation in found.violations) and found.seeds
