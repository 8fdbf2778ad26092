"""One of two processes under torchrun; writes the weights it ends with."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from aloe_critic import distributed
from test_loop import Problem

if __name__ == "__main__":
    with distributed.group():
        rank, count = distributed.world()
        assert count == 2
        problem = Problem()
        problem.run()
        save_file({"weights": problem.weights()}, Path(sys.argv[1]) / f"rank{rank}.safetensors")
