import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from std_msgs.msg import Float64MultiArray

from aloe_core.errors import AloeError
from aloe_sim.nodes import privileged


class Known:
    """The few attributes of a station that sim/state carries."""

    def __init__(self, tick, success, failure, stage, snapshot) -> None:
        self.tick, self.success, self.failure, self.stage = tick, success, failure, stage
        self.snapshot = lambda: snapshot


@given(
    st.integers(1, 10**15),
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1),
    arrays(np.float64, 7, elements=st.floats(-9, 9)),
)
def test_a_privileged_state_survives_the_message_with_its_stamp_to_the_ns(
    stamp, tick, success, failure, stage, physics
):
    msg = privileged.message(privileged.Key("sorting", "easy", "train"))
    privileged.fill(msg, stamp, Known(tick, success, failure, stage, physics))
    state = privileged.read(msg)
    assert state.key == ("sorting", "easy", "train")
    assert (state.stamp, state.tick, state.success, state.failure, state.stage) == (
        stamp, tick, success, failure, stage)  # fmt: skip
    np.testing.assert_array_equal(state.snapshot, physics)


def test_a_message_that_is_no_simulator_state_is_refused():
    with pytest.raises(AloeError, match="expected task/level/variant"):
        privileged.read(Float64MultiArray(data=[1.0] * 20))
