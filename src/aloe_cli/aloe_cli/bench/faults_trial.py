"""One life of the graph: each of its faults strikes at a random moment of an episode of its own."""

from __future__ import annotations

import random
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import rclpy
from aloe_msgs.msg import ExecutedStep
from rclpy.serialization import deserialize_message

from aloe_cli.bench.faults_cases import Fault, Places, needs_cable, small_folder
from aloe_cli.bench.faults_disk import SmallDisk
from aloe_cli.bench.faults_graph import Processes
from aloe_cli.bench.faults_link import Cable
from aloe_cli.bench.faults_world import Moment, World
from aloe_core.contract import load_contract
from aloe_core.episode.bag import read_bag, read_labels
from aloe_core.episode.data import Outcome
from aloe_core.episode.recover import Status, recover_folder
from aloe_core.errors import AloeError
from aloe_policy.untrained import write_untrained
from aloe_ros import stamps

_MOMENT = 1.5  # s after the policy or the person began within which a fault strikes
_ON_DISK = 2.5  # s after which something of an episode is on disk
_TOLD = 15.0  # s within which the operator must have been told
_SYNC = 2.0  # s, sync_period of the recorder: what a kill may cost


@dataclass
class Seen:
    """What one fault did."""

    fault: Fault
    skipped: str = ""  # why it could not be tried
    held: float = 0.0  # s from the fault to the last step (command) that is not HOLD
    rest: float = 0.0  # s from the fault to the last motion of the robot
    struck: float = 0.0  # s of the robot's time
    said: str = ""
    jumps: int = 0  # steps over the slew limit
    saved: int = 0  # episodes finished in this life of the graph
    lost: int = 0  # of them, those that cannot be read back
    torn: int = 0
    recovered: int = 0
    lost_seconds: float = 0.0  # of the torn episode
    stalled: str = ""  # what did not happen afterwards; the rest of this life was not tried

    def problems(self, slack: float) -> list[str]:
        """Return what breaks a promise; `slack` (s) is what a busy machine may add to a time limit."""
        limit = self.fault.limit
        checks = {
            f"held after {self.held:.3f} s, {limit} s are allowed": limit is not None and self.held > limit + slack,
            "nobody was told": not self.said,
            f"stalled: {self.stalled}": bool(self.stalled),
            f"{self.jumps} steps over the slew limit": self.jumps > 0,
            f"{self.lost} of {self.saved} finished episodes are lost": self.lost > 0,
            f"{self.recovered} of {self.torn} torn episodes were recovered": self.recovered != self.torn,
            f"{self.lost_seconds:.2f} s of the torn episode are lost": self.lost_seconds > _SYNC + slack,
        }
        return [] if self.skipped else [said for said, broken in checks.items() if broken]


def live(folder: Path, contract: Path, faults: list[Fault], seed: int) -> list[Seen]:
    """Start the graph in `folder`, let the faults strike, and look at what is left; AloeError if it stalls."""
    robot = load_contract(contract)
    rng = random.Random(seed)
    write_untrained(folder / "checkpoints", robot, small=True, critic=False)
    seen: list[Seen] = []
    with ExitStack() as stack:
        try:
            cable = stack.enter_context(Cable()) if needs_cable(faults) else None
        except AloeError as error:
            return [Seen(fault, skipped=str(error)) for fault in faults]
        disk, no_disk = None, ""
        if any(fault.on_small_disk for fault in faults):
            try:
                disk = stack.enter_context(SmallDisk(folder / "small"))
            except AloeError as error:
                no_disk = str(error)
        places = Places(disk, cable)
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        processes = Processes(folder, contract, cable.elsewhere if cable is not None else None)
        world = World(robot, stack.enter_context(processes))
        stack.callback(world.close)
        world.connect(seed)
        for number, fault in enumerate(faults):
            if fault.on_small_disk and no_disk:
                seen.append(Seen(fault, skipped=no_disk))
                continue
            seen.append(_strike(world, fault, places, rng, 1000 * seed + number))
            if seen[-1].stalled:
                break
        processes.__exit__()
        _look_at_bags(world, folder, seen)
    return seen


def _strike(world: World, fault: Fault, places: Places, rng: random.Random, seed: int) -> Seen:
    world.begin(seed, small_folder(fault, places))
    moment = rng.uniform(0.0, _MOMENT) + (_ON_DISK if fault.tears else 0.0)
    while True:
        if fault.person:
            world.take_over()
        world.spin(moment)
        if world.person_drives == fault.person:
            break
    world.mark()
    jumps, at, stamp = world.jumps, time.time(), world.stamp
    fault.strike(world, places)
    if fault.ends:
        world.until(lambda: world.processes.runner.poll() is not None, "the graph has ended")
    world.last(fault.lasts)
    begun, over = Moment(at, stamp), time.time()
    if fault.relieve is not None:
        fault.relieve(world, places)
    result = Seen(fault, said=world.heard(re.compile(fault.said).search, _TOLD))
    try:
        if not fault.ends:
            _go_on(world, fault)
    except AssertionError as error:  # how a Spinner says that something did not happen in time
        result.stalled = " ".join(str(error).split())
    moments = world.commanded if fault.silent else world.driven
    result.held = _lasted(moments, begun, over, stamp=fault.robot_time)
    result.rest = _lasted(world.moved, begun, over)
    result.jumps, result.struck = world.jumps - jumps, stamp
    if fault.on_small_disk:
        _recover(world, small_folder(fault, places), result)
    return result


def _lasted(moments: list[Moment], begun: Moment, over: float, *, stamp: bool = False) -> float:
    """Return the time (s) from `begun` to the last of the moments before `over`; 0 if none came after it."""
    field = Moment._fields.index("stamp" if stamp else "wall")
    return max((moment[field] - begun[field] for moment in moments if begun.wall < moment.wall < over), default=0.0)


def _go_on(world: World, fault: Fault) -> None:
    """See the graph through to the end of the episode, ready for the next."""
    if fault.resumes:
        world.await_steps(ExecutedStep.SOURCE_POLICY, 10)
    world.press(False)
    world.end()


def _look_at_bags(world: World, folder: Path, seen: list[Seen]) -> None:
    """Recover what is torn, then read every finished episode back."""
    _recover(world, folder / "bags", seen[-1])
    lost = sum(not _whole(path) for path in world.saved)
    for result in seen:
        result.saved, result.lost = len(world.saved), lost


def _recover(world: World, bags: Path | None, result: Seen) -> None:
    assert bags is not None
    for recovery in recover_folder(bags):
        result.torn += 1
        result.recovered += recovery.status in (Status.CLEAN, Status.RECOVERED)
        if recovery.status is Status.RECOVERED:
            result.lost_seconds = max(result.lost_seconds, result.struck - _last_step(recovery.path))


def _last_step(bag: Path) -> float:
    """Return the stamp (s) of the last executed step in a bag."""
    messages = read_bag(bag, types=("aloe_msgs/msg/ExecutedStep",)).messages
    found = [
        deserialize_message(bytes(m.data), ExecutedStep).header.stamp for steps in messages.values() for m in steps
    ]
    return max(stamps.to_ns(stamp) for stamp in found) * 1e-9


def _whole(bag: Path) -> bool:
    try:
        read_bag(bag, types=None)
        return read_labels(bag).outcome is not Outcome.ABORTED
    except AloeError:
        return False
