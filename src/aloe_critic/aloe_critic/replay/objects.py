"""A replay of episodes that were seen as poses of objects, for benchmarks on the simulator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from aloe_core.episode.data import EpisodeData, Frames
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.replay.view import Replay
from aloe_policy.model import ObsBatch


@dataclass
class ObjectReplay(Replay):
    """Observation rows hold what `EpisodeData.objects` says; there are no pixels.

    To the rest of the replay each camera has one black frame an episode, which nothing looks at.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._objects: list[Tensor] = []
        self._black = {
            camera.name: cv2.imencode(".jpg", np.zeros((camera.height, camera.width, 3), np.uint8))[1].tobytes()
            for camera in self.contract.cameras
        }

    def add(self, ep: EpisodeData, *, checked: bool = False) -> None:
        """Index one episode; AloeError if it says nothing of objects."""
        if ep.objects is None:
            raise AloeError(f"Episode {ep.episode_id}: says nothing of objects; run it with observe='objects'.")
        frames = {name: Frames(ep.stamps[:1], (jpeg,)) for name, jpeg in self._black.items()}
        super().add(replace(ep, frames=frames), checked=True)
        windows = chunk_transitions(ep, self.contract.chunk.execute, max_length=1, failure_cost=1, stride=self.stride)
        self._objects.append(torch.from_numpy(ep.objects[np.union1d(windows.start, windows.next)]))

    def objects(self) -> Tensor:
        """What was seen at every observation row, float32 [rows, P]."""
        if len(self._objects) > 1:
            self._objects = [torch.cat(self._objects)]
        return self._objects[0]

    def batch(self, rows: Tensor) -> ObsBatch:
        """Observations of these rows."""
        return ObsBatch(images=None, state=self.state()[rows], text=self.text()[rows], objects=self.objects()[rows])
