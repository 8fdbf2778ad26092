"""What is broken, by when the robot must hold then, and what the operator must have been told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aloe_cli.bench.faults_disk import SmallDisk
from aloe_cli.bench.faults_link import Cable
from aloe_cli.bench.faults_world import World
from aloe_core.contract import RobotContract

STOPPED = 2.0  # s of SIGSTOP, and of a cut link
_FROZEN = 3.0  # s


@dataclass(frozen=True)
class Places:
    """What some faults need beside the graph; None where this machine does not allow it."""

    disk: SmallDisk | None = None
    cable: Cable | None = None


Act = Callable[[World, Places], None]


@dataclass(frozen=True)
class Fault:
    """One row of the matrix; `limit` is counted from the fault to the last step that is not HOLD."""

    name: str
    strike: Act
    said: str  # pattern of the sentence that tells the operator
    limit: float | None = None  # s; None: nobody has to hold
    lasts: float = STOPPED  # s until `relieve`
    relieve: Act | None = None
    person: bool = False  # a person drives when it strikes, else the policy
    robot_time: bool = False  # the limit counts in the time of the robot's stamps, as the age of chunks and frames does
    silent: bool = False  # the arbiter itself is struck: the limit holds for any command at all
    ends: bool = False  # the graph ends with it
    resumes: bool = False  # the policy drives on, or again, by itself
    tears: bool = False  # its bag
    on_small_disk: bool = False


def _signal(node: str, number: signal.Signals) -> Act:
    return lambda world, _: os.kill(world.processes.pid(node), number)


def _killed(node: str, limit: float | None, **more: object) -> Fault:
    said = rf"{node}\S*: process has died .*exit code -9"
    return Fault(f"{node} killed", _signal(node, signal.SIGKILL), said, limit, **more)  # type: ignore[arg-type]


def _stopped(node: str, limit: float | None, said: str, **more: object) -> Fault:
    strike, relieve = _signal(node, signal.SIGSTOP), _signal(node, signal.SIGCONT)
    return Fault(f"{node} stopped 2 s", strike, said, limit, relieve=relieve, **more)  # type: ignore[arg-type]


def faults(contract: RobotContract) -> list[list[Fault]]:
    """Return the matrix; one inner list is one life of the graph, and only its last fault may end it."""
    stale, camera = contract.staleness, contract.cameras[0].name
    seen = stale.camera + stale.chunk  # frames go stale, then the last chunk made from them
    starved, paused = "arbiter_node: .*no fresh input", "Nothing ran here"
    stops = [
        _stopped("camera_node", seen, "policy_node: .*newest frame is", robot_time=True, resumes=True),
        _stopped("policy_node", stale.chunk, starved, robot_time=True, resumes=True),
        _stopped("arbiter_node", stale.joint_states, paused, silent=True, resumes=True),
        _stopped("takeover_node", stale.teleop, "control/mode: teleop commands stopped", person=True),
        _stopped("episode_recorder", None, paused, resumes=True),
        _stopped("episode_manager", None, paused, resumes=True),
    ]
    around = [
        Fault(
            "joystick unplugged",
            lambda world, _: world.plug(False),
            "control/mode: .*joystick was unplugged",
            stale.teleop,
            relieve=lambda world, _: world.plug(True),
            person=True,
        ),
        Fault(
            "camera frozen, stamps go on",
            lambda world, _: world.freeze(camera, _FROZEN),
            f"camera_node: .*{camera}: the same picture",
            lasts=_FROZEN,
            resumes=True,
        ),
        Fault(
            "disk full",
            lambda _, places: _there(places.disk).fill(),
            "recorder/status: .*not saved",
            4.0,  # chunks are synced every 2 s, the news goes through recorder, manager and arbiter
            lasts=5.0,
            relieve=lambda _, places: _there(places.disk).empty(),
            tears=True,
            on_small_disk=True,
        ),
    ]
    kills = [
        _killed("camera_node", seen, robot_time=True, resumes=True),
        _killed("policy_node", stale.chunk, robot_time=True, resumes=True),
        _killed("arbiter_node", stale.joint_states, silent=True, ends=True),
    ]
    cut = Fault(
        "link to the policy's machine cut 2 s",
        lambda _, places: _there(places.cable).cut(),
        starved,
        stale.chunk,
        robot_time=True,
        relieve=lambda _, places: _there(places.cable).mend(),
        resumes=True,
    )
    return [
        stops,
        around,
        kills,
        [_killed("takeover_node", stale.teleop, person=True, ends=True)],
        [_killed("episode_recorder", stale.chunk, ends=True, tears=True)],
        [_killed("episode_manager", stale.chunk, ends=True)],
        [cut],
    ]


def needs_cable(lives: list[Fault]) -> bool:
    """Whether a life of the graph is to be split over two machines."""
    return any(fault.name.startswith("link") for fault in lives)


def _there(place):
    assert place is not None, "this fault was to be skipped"
    return place


def small_folder(fault: Fault, places: Places) -> Path | None:
    """Return the bag folder of the fault's episode where it is not the usual one."""
    return _there(places.disk).path if fault.on_small_disk else None
