"""Episodes by hand: plain services and keys on the joystick, on the real manager and arbiter processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from aloe_msgs.msg import ControlMode, EpisodeEvent
from aloe_msgs.srv import DiscardEpisode, ResetStation, StartEpisode, StopEpisode

from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.names import bag_name, new_ulid
from aloe_core.episode.writer import EpisodeWriter
from episode_world import finish, running, send

START, STOP, DISCARD = 7, 8, 9
KEYS = {"start_button": START, "stop_button": STOP, "discard_button": DISCARD}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hand")
    with running(folder, task="sorting", level="easy", bag_dir=folder / "bags", **KEYS) as (world, spinner):
        world.bags = folder / "bags"
        yield world, spinner


@pytest.fixture(autouse=True)
def fresh(graph):
    world, _ = graph
    shutil.rmtree(world.bags, ignore_errors=True)
    world.plan = lambda step: None
    del world.recorded[:], world.events[:], world.modes[:-1], world.origins[:]


def bag(folder: Path, seed: int, task: str = "sorting") -> tuple[str, Path]:
    """Write an empty bag of a finished episode; return its id and directory."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = EpisodeLabels(episode_id=new_ulid(), task=task, seed=seed)
    return labels.episode_id, EpisodeWriter(folder, bag_name(labels.episode_id, task), labels).abort("test")


def events(world) -> list[int]:
    return [event.event for event in world.events]


def runs(graph) -> None:
    world, spinner = graph
    spinner.until(lambda: EpisodeEvent.STARTED in events(world), "an episode starts")
    spinner.until(lambda: world.k > world.origin + 2, "steps run")


def ends(graph) -> None:
    world, spinner = graph
    spinner.until(lambda: EpisodeEvent.STOPPED in events(world), "the episode ends")
    spinner.until(lambda: world.modes[-1].mode == ControlMode.RESET, "the station stands still")


def test_an_episode_starts_and_stops_early_by_service(graph):
    world, spinner = graph
    started = spinner.call(world.start, StartEpisode.Request(seed=5, supervision="watch", time_limit=1000.0))
    assert started.success, started.message
    assert started.seed == 5
    again = spinner.call(world.start, StartEpisode.Request())
    assert not again.success and "another run of episodes is not finished" in again.message
    wrong = spinner.call(world.stop, StopEpisode.Request(episode_id="E9"))
    assert "episode E9 is not running" in wrong.message
    runs(graph)
    assert spinner.call(world.stop, StopEpisode.Request()).success
    ends(graph)
    stop = world.recorded[-1][1]
    assert (stop.end, stop.outcome, stop.reason) == ("truncated", 0, "stopped early by the operator")
    assert "no episode is running" in spinner.call(world.stop, StopEpisode.Request()).message


def test_stopping_the_run_ends_a_goal_before_its_next_episode(graph):
    world, spinner = graph
    handle = send(graph, seeds=[1, 2, 3], time_limit=1000.0)
    runs(graph)
    assert spinner.call(world.stop, StopEpisode.Request(end_run=True)).success
    result = finish(graph, handle)
    assert result.success and result.message == "Stopped after 1 of 3 episodes: 1 episodes, 0 successes."
    assert (result.ends, result.reasons) == (["truncated"], ["stopped early by the operator"])


def test_numbering_resumes_from_the_bags_on_disk_also_those_in_trash(graph):
    world, spinner = graph
    bag(world.bags, 41)
    bag(world.bags / "trash", 57)
    bag(world.bags, 90, task="folding")
    started = spinner.call(world.start, StartEpisode.Request(next_seed=True, time_limit=0.2))
    assert (started.success, started.seed) == (True, 58), started.message
    ends(graph)
    assert world.recorded[0][1].seed == 58


def test_the_running_episode_is_discarded_and_its_run_goes_on(graph):
    world, spinner = graph
    handle = send(graph, seeds=[1, 2], time_limit=1000.0)
    runs(graph)
    meant = spinner.call(world.discard, DiscardEpisode.Request(dry_run=True))
    assert meant.path.endswith(".partial")
    done = spinner.call(world.discard, DiscardEpisode.Request())
    assert done.success and done.path == f"/bags/trash/{world.recorded[1][1].episode_id}"
    assert world.recorded[1][1].discard
    spinner.until(lambda: len(world.recorded) == 3, "the second episode is recorded")
    spinner.until(lambda: world.k > world.origin + 2, "it runs")
    spinner.call(world.stop, StopEpisode.Request())
    result = finish(graph, handle)
    assert result.success and result.ends == ["aborted", "truncated"]
    assert result.reasons[0] == "discarded by the operator"


def test_a_finished_episode_is_discarded_by_its_id_and_never_deleted(graph):
    world, spinner = graph
    number, path = bag(world.bags, 1)
    meant = spinner.call(world.discard, DiscardEpisode.Request(episode_id=number, dry_run=True))
    assert meant.path == str(path) and path.is_dir()
    done = spinner.call(world.discard, DiscardEpisode.Request(episode_id=number))
    assert done.success and done.path == str(world.bags / "trash" / path.name)
    assert Path(done.path).is_dir() and not path.exists()
    spinner.until(lambda: EpisodeEvent.DISCARDED in events(world), "the event")
    assert "in trash/ already" in spinner.call(world.discard, DiscardEpisode.Request(episode_id=number)).message
    assert "no episode nowhere" in spinner.call(world.discard, DiscardEpisode.Request(episode_id="nowhere")).message


def test_keys_start_stop_and_discard(graph):
    world, spinner = graph
    spinner.until(lambda: world.joy.get_subscription_count() == 2, "arbiter and manager read joy")
    world.press()
    world.press(START)
    runs(graph)
    world.press()
    world.press(STOP)
    ends(graph)
    assert world.recorded[-1][1].reason == "stopped early by the operator"

    def starts() -> bool:  # not before the run of the episode before is concluded
        world.press()
        world.press(START)
        return events(world).count(EpisodeEvent.STARTED) == 2

    spinner.until(starts, "the next one starts")
    spinner.until(lambda: world.k > world.origin + 2, "steps run")
    world.press(DISCARD)
    spinner.until(lambda: len(world.recorded) == 4, "it is stopped")
    assert world.recorded[-1][1].discard
    assert world.recorded[2][1].seed == world.recorded[0][1].seed + 1


def test_a_reset_by_service_is_not_repeated_by_the_start(graph):
    world, spinner = graph
    done = spinner.call(world.reset, ResetStation.Request(task="sorting", level="easy", seed=3))
    assert done.success and (done.instruction, done.time_limit) == ("sort", pytest.approx(0.4))
    assert len(world.origins) == 1
    for resets in (1, 2):

        def starts() -> bool:  # not before the run of the episode before is concluded
            return spinner.call(world.start, StartEpisode.Request(seed=3)).success

        spinner.until(starts, "the start is taken")
        assert len(world.origins) == resets
        spinner.until(lambda count=resets: events(world).count(EpisodeEvent.STOPPED) == count, "it ends")
    answers = []

    def refused() -> bool:
        answers.append(spinner.call(world.reset, ResetStation.Request(task="juggling")).message)
        return "no task juggling" in answers[-1]

    spinner.until(refused, "the station refuses")
    assert set(answers[:-1]) <= {"Reset refused: a run of episodes is not finished."}
