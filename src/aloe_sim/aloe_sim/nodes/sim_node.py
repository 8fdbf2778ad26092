"""The simulated station as a ROS robot: joint states and images out, commands in."""

import json
import sys
import time
from array import array

import numpy as np
from aloe_msgs.srv import DisturbStation, ResetStation
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from trajectory_msgs.msg import JointTrajectory

from aloe_core.errors import AloeError
from aloe_ros import qos, stamps
from aloe_ros.convert import JointReader
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_sim.disturb import DURATION, SPEED, Disturbance, load_disturbances
from aloe_sim.nodes import privileged
from aloe_sim.randomise import LEVELS
from aloe_sim.station import Station


class SimNode(Node):
    """Answers every command with the next observation (lock-step), or runs on the wall clock at `real_time_factor`.

    Nothing is published before the first `station/reset`. In lock-step only a command that carries the stamp of the
    newest joint state moves the simulation; any other is ignored and counted. Where a person watches (`sim/seen`),
    lock-step waits for the person too: a reaction takes simulated time, however busy the machine is.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("sim_node", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._task = declare(self, "task", "sorting", "Task used where a reset names none.")
        self._level = declare(self, "level", "easy", "Difficulty used where a reset names none.")
        self._variant = declare(self, "variant", "train", "Variant of objects and scene: train or held_out.")
        self._randomisation = declare(
            self, "randomisation", "none", "How much light, textures, cameras and friction vary.", choices=LEVELS
        )
        path = declare(self, "disturbances", "", "What goes wrong how often (YAML); empty for nothing.")
        self._disturbances = load_disturbances(path) if path else None
        factor = declare(
            self,
            "real_time_factor",
            1.0,
            "Simulated seconds a wall second; 0 is as fast as possible; unused in lock-step.",
            low=0.0,
            high=100.0,
        )
        self._stations: dict[privileged.Key, Station] = {}
        self._station: Station | None = None  # the one in use
        self._origin = 0  # ns, stamp of the reset state
        self._reader = JointReader(self._contract, "command")
        self._command = np.zeros(0)  # newest positions [J]
        self._ignored = self._ignored_before = 0
        self._commanded = False  # lock-step: the command that moves the simulation is there
        self._seen_stamp = 0  # ns, newest state that the person has looked at
        self._ahead = round(privileged.AHEAD * self._contract.dt * 1e9)
        self._rate = RealTimeFactor()
        self._seed = 0
        self._told = 0  # disturbances of this episode that log and sim/scene have

        control = self._contract.control
        self._clock_publisher = self.create_publisher(Clock, "clock", qos.DEFAULT)
        self._joints = self.create_publisher(JointState, control.joint_states_topic, qos.JOINT_STATES)
        self._state = self.create_publisher(Float64MultiArray, "sim/state", privileged.QOS)
        self._scene = self.create_publisher(String, "sim/scene", qos.LATCHED)
        self._images = [self._image_output(camera) for camera in self._contract.cameras]
        self._clock_msg = Clock()
        # Every node takes every clock message; in lock-step nothing is timed by it, so ten a second are plenty.
        self._clock_period = max(1, round(control.rate_hz / 10)) if self._lockstep else 1  # ticks
        self._joint_msg = JointState(name=self._contract.joint_names)

        if control.command_kind != "joint_trajectory":
            raise AloeError(
                f"Contract {self._contract.name}: control.command_kind = {control.command_kind!r}: expected "
                "'joint_trajectory' for the simulator."
            )
        self.create_subscription(
            JointTrajectory, control.command_topic, self._on_command, qos.command_subscription(self._lockstep)
        )
        self._station_for(self._key("", ""))  # what cannot be served ends the node at once
        self.create_service(ResetStation, "station/reset", self._on_reset)
        self.create_service(DisturbStation, "station/disturb", self._on_disturb)
        self._diagnostics = Diagnostics(self, self._report)
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        if self._lockstep:
            self.create_subscription(Header, "sim/seen", self._on_seen, privileged.SEEN)
            self.create_timer(0.25, self._proceed, clock=steady)  # a person who died is not waited for
        else:
            # Not on ROS time: under use_sim_time the node's own clock message would fire the next tick at once.
            self.create_timer(self._contract.dt / factor if factor else 0.0, self._tick, clock=steady)

    def _image_output(self, camera):
        message = Image(height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width)
        message.header.frame_id = camera.frame_id
        return camera, message, self.create_publisher(Image, f"{camera.topic}/image_raw", qos.IMAGE)

    def _on_reset(self, request, response):
        origin = next_second(self._stamp)
        try:
            key = self._key(request.task, request.level)
            station = self._station_for(key)
            station.reset(request.seed)
        except AloeError as error:
            response.success, response.message = False, str(error)
            return response
        self._station, self._origin = station, origin
        self._command, self._commanded = station.joint_positions(), False
        self._state_msg = privileged.message(key)
        self._seed, self._told = request.seed, 0
        self._say_scene()
        self._rate.restart()
        response.success = True
        response.instruction = station.instruction
        response.time_limit = station.time_limit
        self._observe()
        return response

    @property
    def _stamp(self) -> int:
        """Stamp of the present state (ns); rises over episodes."""
        return self._origin + (self._station.stamp if self._station is not None else 0)

    def _key(self, task: str, level: str) -> privileged.Key:
        return privileged.Key(task or self._task, level or self._level, self._variant)

    def _station_for(self, key: privileged.Key) -> Station:
        if key not in self._stations:
            self._stations[key] = Station(
                self._contract, *key, randomisation=self._randomisation, disturbances=self._disturbances
            )
            self.get_logger().info(f"Built the station for {'/'.join(key)}")
        return self._stations[key]

    def _on_disturb(self, request, response):
        try:
            if self._station is None:
                raise AloeError("Nothing to disturb before the first station/reset.")
            speed, duration = request.speed or SPEED, request.duration or DURATION
            self._station.disturb(Disturbance(request.kind, request.target, speed, duration, request.seed))
        except AloeError as error:
            response.message = str(error)
            return response
        response.success = True
        response.message = self._tell_disturbances()
        return response

    def _tell_disturbances(self) -> str:
        """Say what went wrong since the last time and return the newest of it."""
        done, said = self._station.disturbed, ""
        for tick, one in done[self._told :]:
            said = f"{one.kind} {one.target} at {tick * self._contract.dt:.2f} s"
            self.get_logger().info(f"Disturbed: {said}")
        if len(done) > self._told:
            self._told = len(done)
            self._say_scene()
        return said

    def _say_scene(self) -> None:
        """Publish for the bag what no message of the episode says."""
        station = self._station
        scene = {
            "task": station.task_name,
            "level": station.level,
            "variant": station.variant,
            "randomisation": station.randomisation,
            "seed": self._seed,
            "disturbed": [
                {"time": tick * self._contract.dt, "kind": one.kind, "target": one.target}
                for tick, one in station.disturbed
            ],
        }
        self._scene.publish(String(data=json.dumps(scene)))

    def _on_command(self, msg: JointTrajectory) -> None:
        if self._station is None or (self._lockstep and stamps.to_ns(msg.header.stamp) != self._stamp):
            self._ignored += 1
            return
        try:
            if len(msg.points) != 1:
                raise AloeError(f"command: {len(msg.points)} points: expected 1.")
            self._command = self._reader.positions(msg.joint_names, msg.points[0].positions)
        except AloeError as error:
            self._ignored += 1
            self.get_logger().error(str(error))
            return
        self._commanded = True
        self._proceed()

    def _on_seen(self, msg: Header) -> None:
        self._seen_stamp = stamps.to_ns(msg.stamp)
        self._proceed()

    def _proceed(self) -> None:
        """In lock-step, take the step that is commanded unless the person is too far behind."""
        if self._lockstep and self._commanded and not self._waits_for_person:
            self._commanded = False
            self._tick()

    @property
    def _waits_for_person(self) -> bool:
        return self._stamp - self._seen_stamp >= self._ahead and self.count_publishers("sim/seen") > 0

    def _tick(self) -> None:
        """Run physics for one control period under the newest command and publish what is seen then."""
        if self._station is None:
            return
        self._station.step(self._command)
        self._tell_disturbances()
        self._rate.count()
        self._observe()

    def _observe(self) -> None:
        """Publish everything due at the present stamp, joint states last: they are what asks for a command."""
        station, stamp = self._station, self._stamp
        if station.tick % self._clock_period == 0:
            stamps.fill(self._clock_msg.clock, stamp)
            self._clock_publisher.publish(self._clock_msg)
        for camera, message, publisher in self._images:
            if station.frame_due(camera.name):
                stamps.fill(message.header.stamp, stamp)
                message.data = array("B", station.render(camera.name).tobytes())
                publisher.publish(message)
        privileged.fill(self._state_msg, stamp, station)
        self._state.publish(self._state_msg)
        stamps.fill(self._joint_msg.header.stamp, stamp)
        self._joint_msg.position = array("d", station.joint_positions().astype("float64").tobytes())
        self._joints.publish(self._joint_msg)

    def _report(self):
        factor = self._rate.read(self._contract.dt)
        ignored, self._ignored_before = self._ignored - self._ignored_before, self._ignored
        values = {
            "real_time_factor": f"{factor:.2f}",
            "ignored_commands": self._ignored,
            "stamp": f"{self._stamp * 1e-9:.3f}",
            "lockstep": self._lockstep,
        }
        if self._station is None:
            return OK, "waiting for station/reset", values
        if factor == 0:
            waits = self._commanded and self._waits_for_person
            return OK, "waiting for the person who watches" if waits else "waiting for a command", values
        if ignored:
            return WARN, f"{ignored} commands ignored in the last second", values
        return OK, "running", values


def next_second(stamp: int) -> int:
    """Return the first whole second after `stamp` (ns): every episode starts on one, so frames keep their grid."""
    return (stamp // 1_000_000_000 + 1) * 1_000_000_000


class RealTimeFactor:
    """Simulated over wall seconds between two readings (monotonic wall clock)."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._since, self._ticks = time.monotonic(), 0

    def count(self) -> None:
        self._ticks += 1

    def read(self, dt: float) -> float:
        """Return the factor since the last reading, 0 if nothing ran; `dt` is the tick, s."""
        wall = time.monotonic() - self._since
        factor = self._ticks * dt / wall if wall > 0 else 0.0
        self.restart()
        return factor


def main() -> int:
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
