"""The loop that every optimisation runs in: it saves, resumes, stops when asked, and survives one bad step."""

from __future__ import annotations

import copy
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aloe_core.errors import AloeError
from aloe_critic import distributed, saved, sharding
from aloe_critic.monitor import Monitor

Progress = Callable[[str, int, int, float], None]  # phase, step, steps of the phase, loss
SAVE_PERIOD = 60.0  # s between saved states
GO_ON, SAVE, STOP = 0, 1, 2  # what processes vote on after a step: saving is work that all must join in
SNAPSHOT = 100  # steps between the states in memory that a bad step falls back to


class Stopped(AloeError):
    """Training was asked to stop; what it had reached is saved."""


@dataclass
class Phase:
    """One optimisation: what learns, how, and for how long."""

    name: str
    modules: Mapping[str, nn.Module]  # all that changes, targets included
    optimizer: torch.optim.Optimizer
    steps: int
    loss: Callable[[int], Tensor]  # of a step; a mean over this process's share of the batch
    clip: float  # gradient norm
    batch: dict[str, Tensor]  # the newest, which `loss` keeps for whoever looks into a bad step
    after: Callable[[], None] = lambda: None  # after an optimiser step: targets follow
    rate: Callable[[int], float] | None = None  # learning rate of a step
    # Which of `modules` may be sharded, and by which of its methods the loss uses it: it owns all that is optimised.
    shards: tuple[str, tuple[str, ...]] | None = None


@dataclass
class Loop:
    """Runs phases one after another. With a `folder`, a run that is started again goes on where it was saved.

    What happens between phases must be a function of the phases before it and of the random state: it is done again
    on resuming, with the same result. Only the state that a bad step falls back to is not kept: it is the one resumed
    from, until the next is taken.
    """

    progress: Progress = lambda *_: None
    folder: Path | None = None
    monitor: Monitor | None = None
    save_period: float = SAVE_PERIOD
    parallel: str = "ddp"  # how processes share the work, see sharding.wanted
    _number: int = field(default=0, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _rolled_back: bool = field(default=False, init=False)

    def run(self, phase: Phase) -> float:
        """Optimise and return the mean loss of the last tenth; `Stopped` if asked to stop, AloeError if it diverges."""
        self._number += 1
        path = self._path(phase)
        start, recent = 0, []
        if path is not None and path.exists():
            facts = saved.restore(path, phase.modules, phase.optimizer)
            if facts["steps"] != phase.steps:
                raise AloeError(f"{path}: saved by a run of {facts['steps']} steps: expected {phase.steps}.")
            start, recent = facts["step"], facts["recent"]
            self._rolled_back = self._rolled_back or facts["rolled_back"]
            self.progress(phase.name, start, phase.steps, recent[-1] if recent else 0.0)
        with self._sharded(phase):
            self._steps(phase, start, recent, path)
        return sum(recent) / max(1, len(recent))

    def _sharded(self, phase: Phase) -> AbstractContextManager[None]:
        if phase.shards is None or not sharding.wanted(self.parallel, phase.modules[phase.shards[0]]):
            return nullcontext()
        name, methods = phase.shards
        return sharding.sharded(phase.modules[name], methods, phase.optimizer)

    def _steps(self, phase: Phase, start: int, recent: list[float], path: Path | None) -> None:
        """Take the steps from `start` on; `recent` gathers the losses of the last tenth."""
        parameters = [p for group in phase.optimizer.param_groups for p in group["params"]]
        good = _Snapshot(phase)
        saved_at = time.monotonic()
        tail = min(phase.steps - 1, int(0.9 * phase.steps))
        for step in range(start, phase.steps):
            if step % SNAPSHOT == 0:
                good = _Snapshot(phase)
            loss = self._step(phase, step, parameters, good)
            if loss is not None:
                if step >= tail:
                    recent.append(loss.item())
                self._report(phase, step, loss)
            last = step == phase.steps - 1
            due = last or time.monotonic() - saved_at >= self.save_period
            wish = distributed.highest(STOP if self._stop.is_set() else SAVE if due else GO_ON)
            if path is not None and wish > GO_ON:
                facts = {"phase": phase.name, "step": step + 1, "steps": phase.steps, "recent": recent}
                saved.save(path, phase.modules, phase.optimizer, facts | {"rolled_back": self._rolled_back})
                saved_at = time.monotonic()
            if wish == STOP and not last:
                where = f"saved in {path.parent}" if path is not None else "not saved: the run has no folder"
                raise Stopped(f"Training stopped at step {step + 1} of {phase.steps} of {phase.name}, {where}.")

    def stop(self, *_: int | FrameType | None) -> None:
        """Ask the run to end after the step under way; also a signal handler."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._stop.is_set()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT finish the step and save, while the context lasts (main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _step(self, phase: Phase, step: int, parameters: list[nn.Parameter], good: _Snapshot) -> Tensor | None:
        """Return the loss, None for a bad step that was undone."""
        if phase.rate is not None:
            for group in phase.optimizer.param_groups:
                group["lr"] = phase.rate(step)
        loss = phase.loss(step)
        phase.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(parameters)
        norm = sharding.whole(torch.nn.utils.clip_grad_norm_(parameters, phase.clip))
        # One process with a bad share must not leave the others behind.
        if distributed.agree(not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss))):
            self._undo(phase, step, loss, good)
            return None
        phase.optimizer.step()
        phase.after()
        return distributed.mean(loss)

    def _undo(self, phase: Phase, step: int, loss: Tensor, good: _Snapshot) -> None:
        """Go back to the last good state once; the second time stop and keep the batch."""
        if not self._rolled_back:
            self._rolled_back = True
            good.restore(phase)
            if self.monitor is not None:
                self.monitor.text("events", f"{phase.name}: step {step} was not finite; back to the last good state")
            return
        kept = ""
        if self.folder is not None:
            path = self.folder / "bad_batch.safetensors"
            save_file({n: t.detach().cpu().contiguous() for n, t in phase.batch.items()}, path)
            kept = f"; its batch is in {path}"
        raise AloeError(
            f"Training diverged: the {phase.name} loss is {loss.item()} at step {step}, after one return to a good "
            f"state{kept}."
        )

    def _report(self, phase: Phase, step: int, loss: Tensor) -> None:
        last = step == phase.steps - 1
        if step % 10 == 9 or last:
            value = loss.item()
            self.progress(phase.name, step + 1, phase.steps, value)
            if self.monitor is not None:
                self.monitor.scalar(f"loss/{phase.name}", value, step)

    def _path(self, phase: Phase) -> Path | None:
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{self._number:02d}-{re.sub(r'[^a-z0-9]+', '_', phase.name.lower())}.safetensors"


class _Snapshot:
    """Weights and optimiser in memory."""

    def __init__(self, phase: Phase) -> None:
        self._modules = {name: copy.deepcopy(module.state_dict()) for name, module in phase.modules.items()}
        self._optimizer = copy.deepcopy(phase.optimizer.state_dict())

    def restore(self, phase: Phase) -> None:
        for name, module in phase.modules.items():
            module.load_state_dict(self._modules[name])
        phase.optimizer.load_state_dict(copy.deepcopy(self._optimizer))
