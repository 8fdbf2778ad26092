"""The services of other nodes that an episode needs; every refusal and every silence is one AloeError."""

from aloe_msgs.srv import ResetStation, SetControlMode, StartRecording, StopRecording
from rclpy.node import Node
from std_srvs.srv import Trigger

from aloe_core.errors import AloeError
from aloe_ros import stamps
from aloe_ros.waiting import Waiter
from aloe_teleop.episode import Episode


class EpisodeServices:
    """Clients of arbiter, station and recorder; `timeout` in wall seconds holds for every call."""

    def __init__(self, node: Node, waiter: Waiter, timeout: float) -> None:
        self._waiter = waiter
        self._timeout = timeout
        self._set_mode = node.create_client(SetControlMode, "control/set_mode")
        self._reset = node.create_client(ResetStation, "station/reset")
        self._script = node.create_client(Trigger, "station/reset_script")
        self._start = node.create_client(StartRecording, "recorder/start")
        self._stop = node.create_client(StopRecording, "recorder/stop")

    async def ask(self, mode: int, cause: str) -> None:
        """Set the control mode."""
        await self._call(self._set_mode, SetControlMode.Request(mode=mode, cause=cause), "")

    async def reset_station(self, task: str, level: str, seed: int) -> tuple[str, float]:
        """Put the simulated station into its start state; returns instruction and time limit (s)."""
        request = ResetStation.Request(task=task, level=level, seed=seed)
        answer = await self._call(self._reset, request, "Station reset failed: ")
        return answer.instruction, answer.time_limit

    async def run_reset_script(self) -> None:
        """Let the robot's own script reset the station; the arbiter commands nothing meanwhile (mode RESET)."""
        await self._call(self._script, Trigger.Request(), "Reset script failed: ")

    async def start_recording(self, episode: Episode, operator: str, folder: str) -> str:
        """Return the directory that is being written."""
        request = StartRecording.Request(
            episode_id=episode.episode_id,
            task=episode.task,
            instruction=episode.instruction,
            seed=episode.seed,
            operator_name=operator,
            folder=folder,
        )
        return (await self._call(self._start, request, "Recorder did not start: ")).path

    async def stop_recording(self, episode: Episode) -> tuple[str, str]:
        """Stop with the verdict of `episode`; return the bag directory and what the recorder says of its quality."""
        verdict = episode.verdict
        request = StopRecording.Request(
            episode_id=episode.episode_id,
            outcome=int(verdict.outcome),
            end=verdict.end,
            reason=verdict.reason,
            label_stamp=stamps.to_msg(verdict.label_stamp),
            discard=episode.discarded,
        )
        answer = await self._call(self._stop, request, "The bag was not saved: ")
        return answer.path, answer.message

    async def _call(self, client, request, refusal: str):
        answer = await self._waiter.call(client, request, self._timeout)
        if not answer.success:
            raise AloeError(f"{refusal}{answer.message}")
        return answer
