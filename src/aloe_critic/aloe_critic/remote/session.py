"""The run under way on a server that trains: its steps, its state on disk, the versions that come of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aloe_core.checkpoint import next_version, write_checkpoint
from aloe_core.errors import AloeError
from aloe_critic import saved
from aloe_critic.remote.trainee import Observations, Trainee
from aloe_policy.runtime import CRITIC_CONFIG, CRITIC_FILE

SAVE_PERIOD = 60.0  # s between saved states
STATE = ".training/state.safetensors"  # beside the versions


class Session:
    """One trainer's run at a time, on the weights of the last version. For one thread.

    A step is a function of the weights, the optimiser, its number and its batch: what a server that was killed had not
    saved, its trainer takes again, with the same result on a CPU.
    """

    def __init__(self, trainee: Trainee, root: Path, parent: str = "", save_period: float = SAVE_PERIOD) -> None:
        """Versions go to `root`, where an unfinished run is gone on with; AloeError if it began with another policy.

        `parent`: the version of `root` that was loaded, if it is one.
        """
        self.trainee, self._root, self._save_period = trainee, root, save_period
        self._weights = _named(trainee.weights)
        self._start = _named({name: w.detach().clone() for name, w in trainee.weights.items()})  # of the last version
        self._optimizer = trainee.optimizer()
        self._run, self._seed, self._steps, self._version = "", 0, 0, ""
        self._loaded = self._parent = parent
        self._saved_at = time.monotonic()
        self._state = root / STATE
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AloeError(f"{root}: versions cannot be written there ({error.strerror}).") from error
        if self._state.exists():
            self._restore()

    @property
    def changed(self) -> bool:
        """Whether the weights are no longer those that were loaded."""
        return self._steps > 0 or self._parent != self._loaded

    def begin(self, run: str, seed: int) -> tuple[int, str]:
        """Go on with `run`, or begin it from the last version; return its steps so far and what it was saved as.

        Steps of another run that were not saved as a version are undone.
        """
        if run != self._run:
            self._weights.load_state_dict(self._start.state_dict())
            self._optimizer = self.trainee.optimizer()
            self._run, self._seed, self._steps, self._version = run, seed, 0, ""
        return self._steps, self._version

    def step(
        self,
        run: str,
        number: int,
        obs: Observations,
        chunks: Tensor,
        length: Tensor,
        weight: Tensor,
        rate: float,
        clip: float,
    ) -> tuple[float, float]:
        """Take step `number` on the weighted loss; return that loss and the norm of its gradient before clipping.

        A batch without any weight is counted, and changes nothing. AloeError for another run or number, and for a loss
        or gradient that is not finite: then nothing has changed.
        """
        self._check(run)
        if number != self._steps:
            raise AloeError(f"Step {number}: run {run} has {self._steps} steps behind it: begin it again.")
        if self._version:
            raise AloeError(f"Step {number}: run {run} has ended, it is {self._version}: begin another.")
        loss, norm = torch.zeros(()), torch.zeros(())
        if weight.any():
            torch.manual_seed(self._seed + number)
            self.trainee.train(True)
            each = self.trainee.losses(obs, chunks, length)
            loss = (weight.to(each) * each).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(list(self._weights.values()), clip)
            if not torch.isfinite(loss) or not torch.isfinite(norm):
                self._optimizer.zero_grad(set_to_none=True)
                raise AloeError(
                    f"Step {number}: its loss is {loss.item():g} and the norm of its gradient {norm.item():g}: it was "
                    "not taken; lower the learning rate."
                )
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self._steps += 1
        if time.monotonic() - self._saved_at >= self._save_period:
            self.keep()
        return loss.item(), norm.item()

    def save(
        self, run: str, method: str, contract_hash: str, metrics: Mapping[str, object], critic: tuple[bytes, Any] | None
    ) -> tuple[str, Path]:
        """Write the policy as a version, with a critic's weights and configuration beside it; it ends the run.

        Asked again it returns the version that is there.
        """
        self._check(run)
        if not self._version:
            with tempfile.TemporaryDirectory(dir=self._state.parent, prefix="version-") as scratch:
                files, config = self.trainee.files(Path(scratch))
                if critic is not None:
                    files |= {CRITIC_FILE: critic[0], CRITIC_CONFIG: json.dumps(critic[1], indent=1).encode()}
                version = next_version(self._root, method)
                write_checkpoint(
                    self._root,
                    version,
                    files,
                    config=config,
                    norm={},  # LeRobot's processors have files of their own
                    contract_hash=contract_hash,
                    step=int(version[1:5]),
                    parent=self._parent,
                    method=method,
                    metrics=metrics,
                )
            self._version = self._parent = version
            self._start.load_state_dict(self._weights.state_dict())
            self.keep()
        return self._version, self._root / self._version

    def keep(self) -> None:
        """Save the run so that the next server goes on with it."""
        facts = {
            "base": self.trainee.base,
            "trains": self.trainee.trains,
            "run": self._run,
            "seed": self._seed,
            "steps": self._steps,
            "version": self._version,
            "parent": self._parent,
        }
        saved.save(self._state, {"weights": self._weights, "start": self._start}, self._optimizer, facts)
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        facts = saved.facts(self._state)
        mine = {"base": self.trainee.base, "trains": self.trainee.trains}
        if {key: facts[key] for key in mine} == mine:
            modules = {"weights": self._weights, "start": self._start}
            saved.restore(self._state, modules, self._optimizer)
            self._run, self._seed = facts["run"], facts["seed"]
            self._steps, self._version, self._parent = facts["steps"], facts["version"], facts["parent"]
        elif not facts["version"]:
            raise AloeError(
                f"{self._state}: an unfinished run of {facts['steps']} steps, of {facts['trains']} of {facts['base']}: "
                f"start the server with that, or remove the file; this is {self.trainee.trains} of {self.trainee.base}."
            )

    def _check(self, run: str) -> None:
        if run != self._run:
            raise AloeError(f"Run {run}: not the one under way here, which is {self._run or 'none'}: begin it.")


def _named(weights: Mapping[str, Tensor]) -> nn.ParameterDict:
    """The weights as a module that shares them; names of its own must not have dots."""
    return nn.ParameterDict({name.replace(".", "/"): weight for name, weight in weights.items()})
