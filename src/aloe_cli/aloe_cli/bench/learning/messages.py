"""What the processes of a pool say of their work, shown as it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.managers import SyncManager
from queue import Queue

from aloe_cli.progress import Stages
from aloe_sim.collect import follow_parent


@contextmanager
def shown(stages: Stages) -> Iterator[Queue[str]]:
    """Yield a queue for spawned processes; each `name: what` put into it is shown, the latest of a name in its line."""
    manager = SyncManager()
    manager.start(follow_parent)
    with manager:
        messages: Queue[str] = manager.Queue()
        listener = threading.Thread(target=_listen, args=(messages, stages), daemon=True)
        listener.start()
        yield messages
        messages.put("")
        listener.join()


def _listen(messages: Queue[str], stages: Stages) -> None:
    with suppress(EOFError):  # the benchmark ended by an error, which is told elsewhere
        while message := messages.get():
            key, _, what = message.partition(": ")
            stages.show(key, 0, None, what)
