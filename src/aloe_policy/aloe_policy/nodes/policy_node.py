"""Chunks for the arbiter: observes, infers in a thread of its own, swaps checkpoints between chunks."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from aloe_msgs.msg import ActionChunk, ControlMode, ExecutedStep, Task, ValueEstimate
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, JointState

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.pacing import paced
from aloe_core.types import Inference, Observation, Plan, PolicyRuntime
from aloe_policy.checkpoint_cache import CheckpointCache, default_cache
from aloe_policy.chunking import FRESH, G_MAX, MODES, Chunking
from aloe_policy.image_bridge import decode_jpeg
from aloe_policy.nodes.checkpoints import CheckpointIntake
from aloe_policy.nodes.policy_server import ServerIntake
from aloe_policy.nodes.value_watch import ValueWatch
from aloe_policy.scheduler import ChunkScheduler, Latency, Request
from aloe_policy.swap import MODEL_ERRORS, CheckpointSwapper, Loader, check_inference
from aloe_policy.worker import NewestWins
from aloe_ros import diagnostics, qos, stamps
from aloe_ros.convert import JointReader, chunk_to_msg, value_to_msg
from aloe_ros.node import AloeLifecycleNode, run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep


class PolicyNode(AloeLifecycleNode):
    """Publishes policy/action_chunk and policy/value while the arbiter is in POLICY.

    Threads: callbacks run in a single-threaded executor (half the cost a message of a multi-threaded one), inference
    in a worker, loading in threads of CheckpointIntake, connecting to a policy server in one of ServerIntake. `_lock`
    guards the scheduler and the order of publishing.
    """

    def __init__(self, loader: Loader | None = None) -> None:
        super().__init__("policy_node")
        self.contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._checkpoints = declare(
            self,
            "checkpoint_dir",
            "",
            "Folder of checkpoints, whose LATEST is loaded, or one checkpoint, then pinned; a URL as well.",
        )
        self._poll = declare(
            self,
            "checkpoint_poll",
            0.0,
            "Seconds between looks at LATEST of a checkpoint_dir at a URL; 0: only at the start.",
            low=0.0,
            high=86400.0,
        )
        cache_dir = declare(
            self, "cache_dir", "", "Folder of checkpoints fetched from URLs; empty = ~/.cache/aloe/checkpoints."
        )
        cache_keep = declare(self, "cache_keep", 3, "Fetched checkpoints kept beside those in use.", low=0, high=1000)
        candidates = declare(self, "candidates", 8, "Chunks sampled; the critic chooses one.", low=1, high=256)
        device = declare(self, "device", "cpu", "Torch device of the policy.")
        threads = declare(self, "torch_threads", 1, "Threads of one inference.", low=1, high=64)
        timeout = declare(self, "frame_timeout", 2.0, "Lock-step wait for a due frame, s.", low=0.0, high=60.0)
        chunking = Chunking(
            declare(self, "chunking", "receding", "How a chunk follows the one before it.", choices=MODES),
            declare(self, "guidance_max", G_MAX, "rtc: largest weight of the guidance.", low=0.0, high=100.0),
            declare(self, "ensemble_fresh", FRESH, "ensemble: share of the newest chunk.", low=0.01, high=1.0),
        )
        self._injected = declare(
            self, "inject_delay", 0.0, "Held back before a chunk is sent, s; for tests.", low=0.0, high=10.0
        )
        if self._injected and self._lockstep:
            raise AloeError(
                "Node policy_node: inject_delay needs lockstep: false, since lock-step waits for every chunk; "
                "run_episode(delay=...) has a delay in process."
            )

        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._scheduler = ChunkScheduler(self.contract, self._lockstep, timeout)
        self._swapper = CheckpointSwapper(
            self.contract, loader or native_loader(self.contract, candidates, device, threads, chunking)
        )
        self._server = ServerIntake(self, self.contract, candidates, chunking.mode)
        self._cache = CheckpointCache(
            Path(cache_dir).expanduser() if cache_dir else default_cache(), self.contract.hash, cache_keep
        )
        self._joints = JointReader(self.contract)
        self._chunking = chunking.mode
        self._mode: ControlMode | None = None
        self._active = False
        self._crash: Exception | None = None
        self._said: str | None = None  # problem that was logged
        self._overhead = Latency()  # joint state received -> chunk published, less the model's time
        self._chunks = 0
        self._infer_worker: NewestWins[Request] | None = None
        self._intake: CheckpointIntake | None = None
        self._watch = ValueWatch(self)
        self._told: tuple[bytes, str] | None = None  # level and message that policy/status has
        self._status_publisher = self.create_publisher(DiagnosticStatus, "policy/status", qos.LATCHED)
        self._diagnostics = diagnostics.Diagnostics(self, self._report_and_tell)

    def configure(self) -> None:
        self._closing.clear()
        self._chunk_publisher = self.create_publisher(ActionChunk, "policy/action_chunk", qos.COMMAND)
        self._value_publisher = self.create_publisher(ValueEstimate, "policy/value", qos.DEFAULT)
        self._infer_worker = NewestWins("inference", self._infer, self._crashed)
        subscribe, contract = self.create_subscription, self.contract
        frames, states = qos.image_subscription(self._lockstep), qos.joint_states_subscription(self._lockstep)
        # In this order: the executor serves what is ready at once in the order of creation.
        self._subscriptions_made = [
            subscribe(Task, "task", self._on_task, qos.LATCHED),
            *(
                subscribe(CompressedImage, f"{c.topic}/image_raw/compressed", partial(self._on_frame, c.name), frames)
                for c in contract.cameras
            ),
            subscribe(JointState, contract.control.joint_states_topic, self._on_joint_state, states),
            subscribe(ExecutedStep, "control/executed", self._on_executed, qos.command_subscription(self._lockstep)),
            subscribe(ControlMode, "control/mode", self._on_mode, qos.LATCHED),
        ]
        self._intake = CheckpointIntake(self, self._swapper, self._cache, self._swapped, self._crashed)
        if self._server.wanted:
            self._server.start(self._swapper, self._swapped, self._crashed)
        else:
            self._intake.load_initial(self._checkpoints, self._poll)

    def _swapped(self) -> None:
        with self._lock:
            self._advance()

    def activate(self) -> None:
        self._active = True
        self._apply_mode()

    def deactivate(self) -> None:
        self._active = False
        self._apply_mode()

    def cleanup(self) -> None:
        self.close()
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        for publisher in (self._chunk_publisher, self._value_publisher):
            self.destroy_publisher(publisher)

    def close(self) -> None:
        """Stop the threads; what they have begun is finished but not published."""
        self._active = False
        self._closing.set()
        self._server.close()
        if self._infer_worker is not None:
            self._infer_worker.close()
        if self._intake is not None:
            self._intake.close()
        self._infer_worker = self._intake = None

    def _on_task(self, msg: Task) -> None:
        with self._lock:
            if self._scheduler.on_task(msg.episode_id, msg.instruction, msg.seed):
                self._watch.on_episode()
            self._advance()

    def _on_frame(self, camera: str, msg: CompressedImage) -> None:
        with self._lock:
            self._scheduler.on_frame(camera, stamps.to_ns(msg.header.stamp), msg.data.tobytes())
            self._advance()

    def _on_joint_state(self, msg: JointState) -> None:
        received = time.monotonic()
        with self._lock:
            try:
                state = self._joints.read(msg).astype(np.float32)
            except AloeError as error:
                self._scheduler.problem = str(error)
                return
            self._scheduler.on_joint_state(stamps.to_ns(msg.header.stamp), state, received)
            self._advance()

    def _on_executed(self, msg: ExecutedStep) -> None:
        with self._lock:
            self._scheduler.on_executed(stamps.to_ns(msg.header.stamp), msg.source, msg.chunk_id, msg.episode_id)
            self._advance()

    def _on_mode(self, msg: ControlMode) -> None:
        self._mode = msg
        self._apply_mode()

    def _apply_mode(self) -> None:
        mode = self._mode
        if mode is not None:
            # In HUMAN the policy may keep the joint groups that the person does not hold.
            drives = mode.mode == ControlMode.POLICY or ExecutedStep.SOURCE_POLICY in mode.group_sources
            driving = self._active and drives
            with self._lock:
                self._scheduler.on_mode(driving, mode.sequence, stamps.to_ns(mode.header.stamp))
                self._watch.on_mode(mode.sequence)
                self._advance()

    def _advance(self) -> None:
        """Start the inference that is due, if any. The lock is held."""
        if self._swapper.current is None or self._infer_worker is None:
            return
        request = self._scheduler.next_request(self._now(), time.monotonic())
        if request is not None:
            self._infer_worker.submit(request)

    def _infer(self, request: Request) -> None:
        """Worker thread: observation in, chunk out."""
        loaded = self._swapper.current
        assert loaded is not None
        try:
            observation = Observation(
                stamp=request.stamp,
                images={name: decode_jpeg(jpeg) for name, jpeg in request.jpegs.items()},
                state=request.state,
                instruction=request.instruction,
                seed=request.seed,
                chunk_number=request.chunk_number,
                plan=self._plan(request, loaded.version),
            )
            inference = loaded.runtime.infer(observation)
            inference = replace(inference, chunk=paced(inference.chunk, request.delay))
            check_inference(inference, self.contract, loaded.version)
        except (AloeError, *MODEL_ERRORS) as error:
            with self._lock:
                self._scheduler.on_failure(request, f"policy {loaded.version} failed: {' '.join(str(error).split())}")
            return
        self._swapper.recorded = observation
        if self._injected:
            self._closing.wait(self._injected)
        with self._lock:
            wanted = self._scheduler.on_chunk(request, inference.chunk, time.monotonic(), self._now())
            if wanted and self._active:
                self._publish(request, inference)

    def _plan(self, request: Request, version: str) -> Plan | None:
        """No chunk is led to, or mixed with, what another version planned."""
        previous = request.previous
        return request.plan if previous is not None and previous.policy_version == version else None

    def _now(self) -> int:
        return 0 if self._lockstep else self.get_clock().now().nanoseconds

    def _publish(self, request: Request, inference: Inference) -> None:
        self._chunk_publisher.publish(chunk_to_msg(inference, self.contract))
        self._overhead.add(time.monotonic() - request.arrived - inference.latency - self._injected)
        self._chunks += 1
        if inference.value is not None:
            self._value_publisher.publish(value_to_msg(inference.value, inference.chunk))
            self._watch.see(inference.chunk.stamp, inference.value.q_min)

    def _crashed(self, error: Exception) -> None:
        """A thread ended by a defect: the next report ends the node with it."""
        self._crash = error

    def _report_and_tell(self) -> diagnostics.Report:
        """Report, and put it on policy/status when it says something new."""
        report = self._report()
        if report[:2] != self._told:
            self._told = report[:2]
            name = self.get_fully_qualified_name()
            self._status_publisher.publish(DiagnosticStatus(level=report[0], name=name, message=report[1]))
        return report

    def _report(self) -> diagnostics.Report:
        if self._crash is not None:
            raise self._crash
        with self._lock:
            self._advance()  # in lock-step nothing arrives while a frame is missing, and its time-out must be seen
            problem, warning, alarm = self._scheduler.problem, self._scheduler.warning, self._watch.raised
            latency, splices = self._scheduler.latency.mean, replace(self._scheduler.splices)
        if problem and problem != self._said:
            self.get_logger().error(f"No chunk: {problem}")
        self._said = problem
        current = self._swapper.current
        refusal = self._intake.refusal if self._intake is not None else None
        server = self._server.runtime
        lost = server.problem if server is not None and (current is None or current.runtime is server) else None
        values = {
            "version": current.version if current else "",
            "pinned": self._swapper.pinned,
            "fetching": self._intake.fetching if self._intake is not None else "",
            "chunks": self._chunks,
            "latency_ms": f"{(latency or 0) * 1e3:.1f}",
            "overhead_ms": f"{(self._overhead.mean or 0) * 1e3:.2f}",
            "chunking": self._chunking,
        }
        if server is not None:
            values["server"] = "connected" if server.problem is None else "not connected"
        if not self._lockstep:
            values |= splices.values()
        if problem:
            return diagnostics.ERROR, problem, values
        if lost:
            return diagnostics.WARN, lost, values
        if current is None:
            return diagnostics.WARN, refusal or "no checkpoint yet", values
        if alarm:
            return diagnostics.WARN, alarm, values
        if refusal:
            return diagnostics.WARN, refusal, values
        if warning:
            return diagnostics.WARN, warning, values
        return diagnostics.OK, f"policy {current.version}", values


def native_loader(
    contract: RobotContract, candidates: int, device: str, threads: int, chunking: Chunking | None = None
) -> Loader:
    """Return what loads a native checkpoint; torch is imported at the first one, in the loading thread."""

    def load(directory: Path, sha256: str | None) -> PolicyRuntime:
        import torch

        from aloe_policy.runtime import load_runtime

        torch.set_num_threads(threads)
        return load_runtime(directory, contract, candidates, device, expect_sha256=sha256, chunking=chunking)

    return load


def main() -> None:
    sys.exit(run(PolicyNode, close=PolicyNode.close))


if __name__ == "__main__":
    main()
