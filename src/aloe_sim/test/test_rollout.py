import numpy as np
import pytest

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_sim.borders import border_figures, border_steps
from aloe_sim.collect import Job, collect, evaluate, summarise
from aloe_sim.expert import Skill
from aloe_sim.human import HumanConfig
from aloe_sim.rollout import decode, run_episode
from aloe_sim.station import Station
from sim_tools import ROBOT, Planner, Still

EXECUTE = ROBOT.chunk.execute


@pytest.fixture(scope="module")
def station():
    station = Station(ROBOT)
    yield station
    station.close()


@pytest.fixture(scope="module")
def watched(station):
    planner = Planner(station, Skill())
    return run_episode(station, 3, planner, "watch"), planner


@pytest.fixture(scope="module")
def supervised(station):
    return run_episode(station, 3, Still(), "supervise", HumanConfig(reserve=0.5))


def test_an_episode_of_a_good_policy_is_a_labelled_success(watched):
    episode, _ = watched
    assert (episode.outcome, episode.end, episode.seed) == (Outcome.SUCCESS, "terminated", 3)
    assert episode.contract_hash == ROBOT.hash and episode.dt == ROBOT.dt
    steps = episode.steps
    assert episode.state.shape == (steps + 1, 14) and episode.state.dtype == np.float32
    assert episode.executed.shape == episode.requested.shape == (steps, 14)
    np.testing.assert_array_equal(np.diff(episode.stamps), 20_000_000)
    assert (episode.source == Source.POLICY).all()


def test_the_last_state_is_the_one_that_was_labelled(station, watched):
    episode, _ = watched
    station.reset(3)
    for action in episode.executed:
        assert not station.success
        station.step(action)
    assert station.success
    np.testing.assert_allclose(station.joint_positions(), episode.state[-1], atol=1e-5)


def test_chunks_run_row_by_row_and_the_next_is_inferred_from_the_state_after_the_last(watched):
    episode, planner = watched
    rows = np.arange(episode.steps)
    np.testing.assert_array_equal(episode.chunk_index, rows % EXECUTE)
    np.testing.assert_array_equal(episode.chunk, rows // EXECUTE)
    assert [o.stamp for o in planner.seen] == episode.stamps[: episode.steps : EXECUTE].tolist()
    assert [o.chunk_number for o in planner.seen] == list(range(len(planner.seen)))
    for obs in planner.seen:
        np.testing.assert_array_equal(obs.state, episode.state[rows[episode.stamps[:-1] == obs.stamp][0]])
        assert obs.instruction == episode.instruction and obs.seed == 3
    assert len(episode.chunk_ids) == len(planner.seen) == len(episode.policy_versions)


def test_the_policy_sees_the_newest_recorded_frame_as_it_came_through_jpeg(watched):
    episode, planner = watched
    for obs in planner.seen:
        for name, frames in episode.frames.items():
            newest = frames.newest(np.array([obs.stamp]))[0]
            assert obs.stamp - frames.stamps[newest] < 1e9 / ROBOT.camera(name).rate_hz
            np.testing.assert_array_equal(obs.images[name], decode(frames.jpegs[newest]))


def test_frames_come_at_the_cameras_rate(watched):
    episode, _ = watched
    for frames in episode.frames.values():
        np.testing.assert_array_equal(np.diff(frames.stamps), 100_000_000)
        assert frames.stamps[0] == 0 and episode.stamps[-1] - frames.stamps[-1] < 100_000_000
        assert len(frames.jpegs) == len(frames.stamps)


def test_without_recording_the_policy_sees_the_same_frames(station, watched):
    episode, planner = watched
    blind = Planner(station, Skill())
    again = run_episode(station, 3, blind, "watch", record=False)
    assert again.frames == {}
    np.testing.assert_array_equal(again.executed, episode.executed)
    for first, second in zip(planner.seen, blind.seen, strict=True):
        for name in ROBOT.camera_names:
            np.testing.assert_array_equal(first.images[name], second.images[name])


def test_a_takeover_cuts_the_chunk_and_handing_back_begins_a_new_one(supervised):
    episode = supervised
    human = np.flatnonzero(episode.source == Source.HUMAN)
    assert len(human), "the person never took over"
    assert (episode.chunk[human] == -1).all() and (episode.chunk_index[human] == -1).all()
    starts = np.flatnonzero(np.diff(episode.source == Source.HUMAN, prepend=False, append=False))
    back = starts[1]
    assert back < episode.steps and episode.source[back] == Source.POLICY, "never handed back"
    assert episode.chunk_index[back] == 0
    assert episode.chunk[back] == episode.chunk[human[0] - 1] + 1


def test_the_executed_action_stays_within_the_velocity_limits_across_the_takeover(supervised):
    speed = np.abs(np.diff(supervised.executed.astype(np.float64), axis=0)) / ROBOT.dt
    assert (speed <= ROBOT.velocity + 1e-3).all()


def test_a_robot_nobody_helps_runs_into_the_time_limit(station):
    episode = run_episode(station, 3, Still(), "watch", time_limit=1.0, record=False)
    assert (episode.outcome, episode.end, episode.steps) == (Outcome.NONE, "truncated", 50)


def test_without_a_policy_only_a_demonstration_works(station):
    with pytest.raises(AloeError, match="needs a policy"):
        run_episode(station, 0, None, "supervise")


def test_a_demonstration_is_human_from_its_first_step(station):
    episode = run_episode(station, 5, None, "demonstrate")
    assert episode.outcome == Outcome.SUCCESS
    assert (episode.source == Source.HUMAN).all() and (episode.chunk == -1).all()
    np.testing.assert_allclose(episode.requested, episode.executed, atol=1e-6)
    np.testing.assert_allclose(episode.executed[0], episode.state[0], atol=0.02)


def test_collecting_does_not_depend_on_the_number_of_processes():
    job = Job(ROBOT, supervision="demonstrate", time_limit=0.6)
    done = []
    alone = collect(job, [3, 1], 1)
    shared = collect(job, [3, 1], 2, lambda n, total, episode: done.append((n, total, episode.seed)))
    assert [e.seed for e in shared] == [3, 1]
    assert [d[:2] for d in done] == [(1, 2), (2, 2)]
    for first, second in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(first.executed, second.executed)
        np.testing.assert_array_equal(first.state, second.state)
        assert first.frames["top"].jpegs == second.frames["top"].jpegs


def make_nothing():
    raise AloeError("checkpoint: none.")


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller_as_it_is(processes):
    with pytest.raises(AloeError, match="checkpoint: none"):
        collect(Job(ROBOT, make_policy=make_nothing), [1, 2], processes)


def test_an_evaluation_counts_successes_and_the_persons_share():
    result = evaluate(Job(ROBOT, make_policy=Still, time_limit=0.2, record=False), [1, 2], 1)
    assert (result.successes, result.episodes, result.success) == (0, 2, 0.0)
    assert result.wilson_low == 0.0 and 0 < result.wilson_high < 1
    assert result.mean_length == pytest.approx(0.2) and np.isnan(result.mean_success_length)
    assert result.intervention_rate == 0.0


def test_a_summary_of_demonstrations_is_all_human(station):
    result = summarise([run_episode(station, s, None, "demonstrate", record=False) for s in (1, 2)])
    assert result.success == 1.0 and result.intervention_rate == 1.0
    assert result.mean_success_length == result.mean_length > 1.0


class Counting(Still):
    """Every row of a chunk holds the pose; keeps what it saw."""

    def __init__(self):
        self.seen = []

    def infer(self, obs):
        self.seen.append(obs)
        return super().infer(obs)


@pytest.mark.parametrize(("delay", "execute"), [(3, 10), (15, 30)])
def test_with_a_delay_a_chunk_is_computed_from_the_observation_that_long_before_it_starts(station, delay, execute):
    policy = Counting()
    episode = run_episode(station, 3, policy, "watch", time_limit=1.5, record=False, delay=delay)
    border = np.flatnonzero(np.diff(episode.chunk)) + 1
    assert set(episode.chunk_index[border]) == {delay} and episode.chunk_index[border - 1].tolist() == [
        execute - 1
    ] * len(border)
    looked = [obs.stamp for obs in policy.seen][1 : 1 + len(border)]
    assert looked == episode.stamps[border - delay].tolist()
    plans = [obs.plan for obs in policy.seen]
    assert plans[0] is None and all(plan.frozen == delay for plan in plans[1:])
    assert all(len(plan.actions) == ROBOT.chunk.horizon - (execute - delay) for plan in plans[1:])


def test_border_steps_are_told_from_those_inside(station):
    """Chunks that each hold another pose move at borders only; the robot's own delay is no border."""

    class Stairs(Still):
        def infer(self, obs):
            found = super().infer(obs)
            found.chunk.actions[:] = 0.01 * obs.chunk_number
            return found

    episode = run_episode(station, 3, Stairs(), "watch", time_limit=0.7, record=False, delay=2)
    border, inside = border_steps([episode], ROBOT)
    assert len(border) == 4 and len(border) + len(inside) == episode.steps - 1
    np.testing.assert_allclose(border, 0.01, atol=1e-6)
    assert (inside == 0).all()
    assert border_figures([episode], ROBOT)["inside_step_p99_rad"] == 0


def test_a_takeover_drops_the_chunk_that_was_computed_ahead(station):
    policy = Counting()
    episode = run_episode(station, 3, policy, "supervise", HumanConfig(reserve=0.5), record=False, delay=5)
    back = np.flatnonzero((episode.source[1:] == Source.POLICY) & (episode.source[:-1] == Source.HUMAN)) + 1
    assert len(back) and (episode.chunk_index[back] == 0).all()
    fresh = [obs for obs in policy.seen if obs.stamp in episode.stamps[back]]
    assert len(fresh) == len(back) and all(obs.plan is None for obs in fresh)


def test_a_delay_over_half_the_horizon_is_refused(station):
    with pytest.raises(AloeError, match="delay = 16 control steps: expected 0 to 15"):
        run_episode(station, 3, Still(), delay=16)
