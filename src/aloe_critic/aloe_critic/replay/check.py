"""What every episode must be before anything is learned from it."""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.quality import PASSED
from aloe_core.errors import AloeError


def check_episode(ep: EpisodeData, contract: RobotContract) -> None:
    """AloeError unless the episode was recorded under this contract, has steps, and their numbers are finite."""
    if ep.contract_hash != contract.hash:
        raise AloeError(
            f"Episode {ep.episode_id}: contract_hash = {ep.contract_hash!r}: expected {contract.hash!r}, "
            f"the hash of contract {contract.name}."
        )
    if ep.steps == 0:
        raise AloeError(f"Episode {ep.episode_id}: no executed steps; discard it.")
    for name, rows in (("state", ep.steps + 1), ("executed", ep.steps)):
        values = getattr(ep, name)
        if values.shape != (rows, contract.action_dim):
            raise AloeError(
                f"Episode {ep.episode_id}: {name} has shape {values.shape}: expected {(rows, contract.action_dim)}."
            )
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            raise AloeError(f"Episode {ep.episode_id}: {name} is not finite at step {int(bad.argmax())}; discard it.")


def failed_check(ep: EpisodeData) -> str:
    """Return what the recorder's quality check found wrong with the take; empty if nothing, or if nobody checked."""
    labels = ep.info.get("labels")
    quality = labels.quality if isinstance(labels, EpisodeLabels) else ""
    return "" if quality == PASSED else quality
