"""Which episodes a folder holds, read from the bags themselves: there is no list that could drift from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aloe_core.episode.bag import read_labels
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.metadata import FILE
from aloe_core.episode.names import PARTIAL, TRASH
from aloe_core.errors import AloeError


@dataclass(frozen=True)
class Kept:
    """One bag of a folder."""

    path: Path
    labels: EpisodeLabels
    in_trash: bool


class EpisodeIndex:
    """The labelled bags of a folder and its `trash/`; a bag's labels are read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, EpisodeLabels | None] = {}  # None: not one of ours, or damaged

    def episodes(self) -> list[Kept]:
        """Return what is there now, oldest first, what was discarded last; unfinished and foreign bags are left out."""
        found = []
        for in_trash, folder in ((False, self.folder), (True, self.folder / TRASH)):
            for file in sorted(folder.glob(f"*/{FILE}")):
                labels = self._labels(file.parent)
                if labels is not None:
                    found.append(Kept(file.parent, labels, in_trash))
        return found

    def find(self, episode_id: str) -> Kept:
        """Return the bag of an episode, by its id or the name of its directory; AloeError if there is none."""
        episodes = self.episodes()
        for kept in episodes:
            if not kept.in_trash and episode_id in (kept.labels.episode_id, kept.path.name):
                return kept
        if any(episode_id in (kept.labels.episode_id, kept.path.name) for kept in episodes):
            raise AloeError(f"{self.folder}: episode {episode_id} is in {TRASH}/ already.")
        raise AloeError(f"{self.folder}: no episode {episode_id} among {len(episodes)} bags.")

    def next_seed(self, task: str) -> int:
        """Return the seed after the highest one of this task, 0 for a first one; discarded takes used theirs up."""
        return 1 + max((kept.labels.seed for kept in self.episodes() if kept.labels.task == task), default=-1)

    def _labels(self, directory: Path) -> EpisodeLabels | None:
        if directory not in self._known and not directory.name.endswith(PARTIAL):
            try:
                self._known[directory] = read_labels(directory)
            except AloeError:
                self._known[directory] = None
        return self._known.get(directory)
