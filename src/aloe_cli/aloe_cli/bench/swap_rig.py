"""A rig that announces checkpoints while the policy drives, and sees which version each step and chunk is of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from aloe_msgs.msg import ActionChunk, Checkpoint, ExecutedStep
from diagnostic_msgs.msg import DiagnosticArray

from aloe_cli.bench.infer_rig import Rig
from aloe_core.contract import RobotContract
from aloe_ros import qos


@dataclass
class Swaps:
    """What came over the topics; times are s of the system's clock, those of DDS: when it was sent or received.

    Not when a callback ran: this process is busy with its frames, and a step it sees late was no tick missed.
    """

    announced: dict[str, float] = field(default_factory=dict)  # version -> when
    first_chunk: dict[str, float] = field(default_factory=dict)  # version -> when it was received
    steps: list[tuple[float, bool, str, str]] = field(default_factory=list)  # sent when, by the policy, chunk, version
    refused: str = ""


class SwapRig(Rig):
    """The rig of `bench infer` with a trainer's announcements."""

    def __init__(self, contract: RobotContract, position: np.ndarray, camera_hz: float) -> None:
        self.swaps = Swaps()
        super().__init__(contract, position, camera_hz)
        self._checkpoints = self.create_publisher(Checkpoint, "checkpoint", qos.LATCHED)

    def swap(self, version: str, uri: str, sha256: str, patience: float) -> None:
        """Announce a checkpoint and drive on until a chunk of it runs; AssertionError if none does."""
        self._spinner.until(self._checkpoints.get_subscription_count, "the policy node hears announcements", patience)
        self._checkpoints.publish(Checkpoint(uri=uri, version=version, sha256=sha256))
        self.swaps.announced[version] = time.time()
        runs = lambda: version in self.swaps.first_chunk and self.swaps.steps[-1][3] == version  # noqa: E731
        self._spinner.until(runs, f"a chunk of {version} runs{self.swaps.refused}", patience)

    def drive(self, seconds: float) -> None:
        """Let the policy drive for a while."""
        self.measure(seconds)

    def _on_chunk(self, chunk: ActionChunk, info: dict) -> None:
        super()._on_chunk(chunk, info)
        self.swaps.first_chunk.setdefault(chunk.policy_version, info["received_timestamp"] * 1e-9)

    def _on_executed(self, step: ExecutedStep, info: dict) -> None:
        super()._on_executed(step, info)
        policy = step.source == ExecutedStep.SOURCE_POLICY
        sent = info["source_timestamp"] * 1e-9
        self.swaps.steps.append((sent, policy, step.chunk_id, step.policy_version))

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        super()._on_diagnostics(msg)
        for status in msg.status:
            if "policy_node" in status.name and "refused" in status.message:
                self.swaps.refused = f" ({status.message})"
