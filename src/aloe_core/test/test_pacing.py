"""When delayed chunks follow each other: d <= s <= H - d, and what one chunk leaves to the next."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.errors import AloeError
from aloe_core.pacing import check_delay, longest_delay, paced, plan_after
from aloe_core.types import Chunk

DT = 20_000_000


def chunk(horizon, execute, stamp=0):
    return Chunk("c", stamp, 0.02, np.arange(horizon, dtype=np.float32)[:, None], execute, "v")


@given(st.integers(1, 100), st.data())
def test_every_delay_that_is_accepted_leaves_time_for_the_next_chunk(horizon, data):
    given_ = chunk(horizon, data.draw(st.integers(1, horizon)))
    delay = data.draw(st.integers(0, longest_delay(horizon)))
    check_delay(horizon, delay)
    s = paced(given_, delay).execute - delay
    assert delay <= s <= horizon - delay


def test_without_a_delay_a_chunk_stays_as_it_is():
    given_ = chunk(30, 10)
    assert paced(given_, 0) is given_


@pytest.mark.parametrize("delay", [-1, 16])
def test_a_delay_over_half_the_horizon_is_refused_in_one_sentence(delay):
    with pytest.raises(AloeError, match=f"delay = {delay} control steps: expected 0 to 15, half of the horizon of 30"):
        check_delay(30, delay)


@given(st.integers(-5, 20), st.integers(0, 20))
def test_a_plan_begins_with_the_row_meant_for_the_new_observation(row, frozen):
    plan = plan_after(chunk(10, 5, 7 * DT), (7 + row) * DT, frozen)
    if not 0 <= row < 10:
        assert plan is None
    else:
        assert plan.actions[0, 0] == row and len(plan.actions) == 10 - row
        assert plan.frozen == min(frozen, 10 - row)
