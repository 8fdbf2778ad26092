"""When delayed chunks follow each other: d <= s <= H - d, and what one chunk leaves to the next."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.pacing import check_delay, execute_steps, longest_delay, plan_after
from aloe_core.types import Chunk

CONTRACT = load_contract(Path(__file__).parents[3] / "config" / "robots" / "aloha_sim.yaml")
DT = 20_000_000


def contract(horizon, execute):
    chunk = CONTRACT.chunk.model_copy(update={"horizon": horizon, "execute": execute})
    return CONTRACT.model_copy(update={"chunk": chunk})


@given(st.integers(1, 100), st.data())
def test_every_delay_that_is_accepted_leaves_time_for_the_next_chunk(horizon, data):
    robot = contract(horizon, data.draw(st.integers(1, horizon)))
    delay = data.draw(st.integers(0, longest_delay(robot)))
    check_delay(robot, delay)
    s = execute_steps(robot, delay) - delay
    assert delay <= s <= horizon - delay


def test_without_a_delay_the_contract_says_how_much_runs():
    assert execute_steps(CONTRACT, 0) == CONTRACT.chunk.execute


@pytest.mark.parametrize("delay", [-1, 16])
def test_a_delay_over_half_the_horizon_is_refused_in_one_sentence(delay):
    with pytest.raises(AloeError, match=f"delay = {delay} control steps: expected 0 to 15, half of the horizon of 30"):
        check_delay(CONTRACT, delay)


@given(st.integers(-5, 20), st.integers(0, 20))
def test_a_plan_begins_with_the_row_meant_for_the_new_observation(row, frozen):
    chunk = Chunk("c", 7 * DT, 0.02, np.arange(10, dtype=np.float32)[:, None], 5, "v")
    plan = plan_after(chunk, (7 + row) * DT, frozen)
    if not 0 <= row < 10:
        assert plan is None
    else:
        assert plan.actions[0, 0] == row and len(plan.actions) == 10 - row
        assert plan.frozen == min(frozen, 10 - row)
