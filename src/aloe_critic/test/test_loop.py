import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.tensorboard import SummaryWriter  # noqa: F401  imported early: it is slow

from aloe_core.errors import AloeError
from aloe_critic import distributed, saved, sharding
from aloe_critic.loop import Loop, Phase, Stopped
from aloe_critic.monitor import Monitor

BATCH = 8


class Problem:
    """A regression with noise in its inputs, a target that follows, and a schedule: all that a learner has."""

    def __init__(self, steps: int = 60, poison: tuple[int, ...] = (), stop_at: int = -1) -> None:
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        self.target = nn.Linear(4, 1)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)
        self.poison, self.stop_at = poison, stop_at
        self.loop: Loop | None = None
        self.newest: dict[str, torch.Tensor] = {}
        self.losses: list[float] = []
        modules = {"net": self.net, "target": self.target}
        self.phase = Phase(
            "a phase",
            modules,
            self.optimizer,
            steps,
            self.loss,
            clip=1.0,
            batch=self.newest,
            after=self.follow,
            rate=lambda step: 1e-2 * (1 - step / steps),
            shards=("net", ()),
        )

    def loss(self, step: int) -> torch.Tensor:
        if step == self.stop_at and self.loop is not None:
            self.loop.stop()
        x = distributed.share(torch.randn(BATCH, 4))
        if step in self.poison:
            x = x * float("nan")
        self.newest["x"] = x
        loss = (self.net(x) - x.sum(1, keepdim=True)).square().mean()
        self.losses.append(loss.item())
        return loss

    def follow(self) -> None:
        with torch.no_grad():
            self.target.weight.lerp_(sharding.whole(self.net[0].weight)[:1], 0.1)

    def run(self, folder: Path | None = None, **kwargs) -> float:
        self.loop = Loop(folder=folder, **kwargs)
        return self.loop.run(self.phase)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in [*self.net.parameters(), *self.target.parameters()]])


def test_the_loop_learns_and_reports_the_last_tenth():
    problem = Problem(steps=300)
    last = problem.run()
    assert last < 0.2 * problem.losses[0]
    assert last == pytest.approx(sum(problem.losses[-30:]) / 30)


@pytest.mark.parametrize("stop_at", [0, 17, 58])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, stop_at):
    whole = Problem()
    loss = whole.run()
    with pytest.raises(Stopped, match=rf"step {stop_at + 1} of 60 of a phase, saved in"):
        Problem(stop_at=stop_at).run(tmp_path)
    again = Problem()
    assert again.run(tmp_path) == loss
    assert len(again.losses) == 60 - stop_at - 1, "only what was left is done again"
    assert torch.equal(again.weights(), whole.weights())


def test_a_phase_that_ended_is_not_run_again_and_leaves_the_same_randomness(tmp_path):
    first = Problem()
    loss = first.run(tmp_path)
    after = torch.rand(3)
    second = Problem()
    assert second.run(tmp_path) == loss
    assert second.losses == []
    assert torch.equal(torch.rand(3), after)
    assert torch.equal(second.weights(), first.weights())


def test_a_saved_state_of_another_run_is_refused(tmp_path):
    Problem().run(tmp_path)
    with pytest.raises(AloeError, match="saved by a run of 60 steps: expected 50"):
        Problem(steps=50).run(tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    with pytest.raises(AloeError, match="the saved net has other tensors"):
        saved.restore(path, {"net": nn.Linear(2, 2)}, None)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AloeError, match="not a saved training state"):
        Problem().run(tmp_path)


def test_one_bad_step_is_undone_and_training_goes_on(tmp_path):
    problem = Problem(steps=200, poison=(120,))
    with Monitor(tmp_path, "run", {}) as monitor:
        last = problem.run(monitor=monitor)
    assert last < 0.5 * problem.losses[0] and torch.isfinite(problem.weights()).all()


def test_a_second_bad_step_ends_the_run_and_keeps_its_batch(tmp_path):
    problem = Problem(poison=(20, 40))
    with pytest.raises(AloeError, match=r"a phase loss is nan at step 40.*bad_batch\.safetensors"):
        problem.run(tmp_path)
    assert torch.isnan(load_file(tmp_path / "bad_batch.safetensors")["x"]).all()
    assert torch.isfinite(problem.weights()).all(), "the weights are those before the bad step"


def test_a_run_that_was_stopped_remembers_its_bad_step(tmp_path):
    with pytest.raises(Stopped):
        Problem(poison=(20,), stop_at=30).run(tmp_path)
    with pytest.raises(AloeError, match="a phase loss is nan at step 40"):
        Problem(poison=(40,)).run(tmp_path)


@pytest.mark.parametrize("stop_at", [-1, 59])
def test_a_phase_whose_last_step_was_bad_is_saved_as_ended(tmp_path, stop_at):
    first = Problem(poison=(59,), stop_at=stop_at)
    loss = first.run(tmp_path)
    again = Problem()
    assert again.run(tmp_path) == loss and again.losses == []
    assert torch.equal(again.weights(), first.weights())


def test_a_stop_at_a_bad_step_is_a_stop(tmp_path):
    with pytest.raises(Stopped, match="step 21 of 60 of a phase, saved in"):
        Problem(poison=(20,), stop_at=20).run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does_and_save_what_one_can_go_on_with(tmp_path, parallel):
    alone = Problem()
    alone.run()
    script = Path(__file__).with_name("loop_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path), parallel],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranks = [load_file(tmp_path / f"rank{r}.safetensors")["weights"] for r in range(2)]
    assert torch.equal(*ranks)
    torch.testing.assert_close(ranks[0], alone.weights(), rtol=1e-4, atol=1e-6)
    again = Problem()
    again.run(tmp_path / "stopped")
    assert len(again.losses) == 60 - 18
    torch.testing.assert_close(again.weights(), alone.weights(), rtol=1e-4, atol=1e-6)
