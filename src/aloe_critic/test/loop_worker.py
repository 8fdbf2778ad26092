"""One of two processes under torchrun; writes the weights it ends with after a stop on the way."""

import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from aloe_critic import distributed, sharding
from aloe_critic.loop import Stopped
from test_loop import Problem

if __name__ == "__main__":
    folder, parallel = Path(sys.argv[1]), sys.argv[2]
    sharding.LAYER = 20  # the inner layer by itself, the outer one with the rest
    with distributed.group():
        rank, count = distributed.world()
        assert count == 2
        stopped = Problem(stop_at=17)
        loss, split = stopped.phase.loss, []
        stopped.phase.loss = lambda step: (split.append(isinstance(stopped.net[0].weight, DTensor)), loss(step))[1]
        try:
            # Clocks differ: one process finds it time to save after every step, the other never.
            stopped.run(folder / "run", parallel=parallel, save_period=0.0 if rank == 0 else 1e9)
            sys.exit("was not stopped")
        except Stopped:
            assert split == [parallel == "fsdp"] * 18
        distributed.wait()
        if rank == 0:
            shutil.copytree(folder / "run", folder / "stopped")
        problem = Problem()
        problem.run(folder / "run", parallel=parallel)
        assert len(problem.losses) == 60 - 18 and type(problem.net) is type(Problem().net)
        save_file({"weights": problem.weights()}, folder / f"rank{rank}.safetensors")
