"""LeRobot's Python with a small π0 and π0.5 (aloe_policy.remote.lerobot.speed.small_pi):

small_pi.py -m MODULE ARGUMENTS...     or SCRIPT ARGUMENTS... runs it as LeRobot's Python would
"""

from __future__ import annotations

import runpy
import sys

from aloe_policy.remote.lerobot.speed.small_pi import shrink

if __name__ == "__main__":
    shrink()
    if sys.argv[1] == "-m":
        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
