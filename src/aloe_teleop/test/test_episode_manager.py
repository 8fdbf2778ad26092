"""episode_manager and arbiter as real processes: what a goal of episodes/run comes to."""

import pytest
from aloe_msgs.msg import ControlMode, EpisodeEvent, TeleopCommand
from aloe_msgs.srv import LabelEpisode, ResetEstop

from aloe_ros import stamps
from episode_world import CONTRACT, DT, HOME, finish, running, send


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """One graph for the module, since discovery costs seconds."""
    with running(tmp_path_factory.mktemp("logs"), operator_name="op") as made:
        yield made


def test_labels_end_episodes_and_the_time_limit_truncates_in_steps(graph):
    world, spinner = graph

    def plan(step):
        if step == 12 and len(world.recorded) == 1:
            world.label(EpisodeEvent.OUTCOME_SUCCESS)

    result = finish(graph, send(graph, seeds=[7, 8], plan=plan))
    assert result.success and result.message == "2 episodes, 1 successes."
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_SUCCESS, EpisodeEvent.OUTCOME_NONE]
    assert list(result.steps) == [12, 20] and list(result.lengths) == pytest.approx([0.24, 0.4])
    assert list(result.intervention_steps) == [0, 0]
    assert result.ends == ["terminated", "truncated"]
    assert result.reasons == ["labelled success", "time limit of 0.4 s"]
    assert result.paths == [f"/bags/{i}" for i in result.episode_ids]
    assert sorted(result.episode_ids) == result.episode_ids and len(set(result.episode_ids)) == 2

    (_, start), (_, stop), _, (_, second) = world.recorded
    assert (start.seed, start.instruction, start.operator_name) == (7, "sort", "op")
    assert (stop.end, stop.outcome) == ("terminated", EpisodeEvent.OUTCOME_SUCCESS)
    assert stamps.to_ns(stop.label_stamp) == (world.origins[-2] + 12) * DT
    assert stamps.to_ns(second.label_stamp) == (world.origins[-1] + 20) * DT
    assert second.end == "truncated" and "time limit of 0.4 s" in second.reason
    spinner.until(lambda: world.tasks and world.tasks[-1].episode_id == "", "the task is cleared")
    assert world.modes[-1].mode == ControlMode.RESET
    kinds = [event.event for event in world.events if event.episode_id == result.episode_ids[0]]
    assert kinds == [EpisodeEvent.STARTED, EpisodeEvent.LABELLED, EpisodeEvent.STOPPED]


def test_a_demonstration_starts_with_the_takeover_and_has_no_other_steps(graph):
    world, spinner = graph

    def plan(step):
        drive()
        if step == 10:
            world.label(EpisodeEvent.OUTCOME_SUCCESS)

    def drive():
        msg = TeleopCommand(engaged=True, joint_names=CONTRACT.joint_names, positions=HOME.tolist())
        stamps.fill(msg.header.stamp, world.k * DT)
        world.teleop.publish(msg)

    handle = send(graph, seeds=[1], supervision="demonstrate", plan=plan)
    spinner.until(lambda: any(e.event == EpisodeEvent.STARTED for e in world.events), "the episode starts")
    drive()
    result = finish(graph, handle)
    world.teleop.publish(TeleopCommand(engaged=False))
    assert (list(result.steps), list(result.intervention_steps)) == ([10], [10])
    modes = [m.mode for m in world.modes]
    assert ControlMode.HOLD not in modes and ControlMode.POLICY not in modes[1:]


def test_an_estop_aborts_the_run_and_the_bag_says_so(graph):
    world, spinner = graph
    result = finish(graph, send(graph, seeds=[1, 2], plan=lambda step: world.estop(True) if step == 5 else None))
    assert not result.success and "e-stop" in result.message
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_ABORTED]
    assert world.recorded[-1][1].end == "aborted"
    assert world.modes[-1].mode == ControlMode.ESTOP
    refused = finish(graph, send(graph, seeds=[1]))
    assert "e-stop is latched" in refused.message and not world.recorded
    world.estop(False)

    def cleared():
        return spinner.call(world.reset_estop, ResetEstop.Request()).success

    spinner.until(cleared, "the e-stop is reset")


def test_a_recorder_that_cannot_start_ends_the_goal_with_its_reason(graph):
    world, _ = graph
    world.recorder_refuses = "disk full."
    result = finish(graph, send(graph, seeds=[1, 2]))
    world.recorder_refuses = ""
    assert result.message == "Recorder did not start: disk full."
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_ABORTED] and list(result.steps) == [0]
    assert [what for what, _ in world.recorded] == ["start"]
    assert world.modes[-1].mode == ControlMode.RESET


def test_cancelling_stops_the_recorder_and_reports_the_episode_as_aborted(graph):
    world, spinner = graph
    handle = send(graph, seeds=[1, 2, 3], time_limit=1000.0)
    spinner.until(lambda: world.modes[-1].mode == ControlMode.POLICY, "the policy drives")
    future = handle.cancel_goal_async()
    spinner.until(future.done, "the cancel is accepted")
    result = finish(graph, handle)
    assert result.message == "Cancelled after 1 of 3 episodes."
    assert world.recorded[-1][0] == "stop" and world.recorded[-1][1].outcome == EpisodeEvent.OUTCOME_ABORTED


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"supervision": "alone"}, "expected one of demonstrate, supervise, watch"),
        ({"task": "juggling"}, "Station reset failed: no task juggling"),
        ({"time_limit": -1.0}, "expected seconds"),
    ],
)
def test_a_goal_that_cannot_be_run_ends_with_one_sentence(graph, goal, says):
    result = finish(graph, send(graph, **{"seeds": [1], **goal}))
    assert not result.success and says in result.message
    assert not graph[0].recorded


def test_a_label_without_an_episode_is_refused(graph):
    world, spinner = graph
    answer = spinner.call(world.labels, LabelEpisode.Request(outcome=1))
    assert answer.message == "Label refused: no episode is running."


def test_what_fails_the_take_is_told_with_the_result(graph):
    world, _ = graph
    world.quality = "The take failed its quality check: /cameras/top: 5 gaps."
    result = finish(graph, send(graph, seeds=[1]))
    world.quality = ""
    assert result.success and "5 gaps" in result.reasons[0]
