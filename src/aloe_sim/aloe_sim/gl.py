"""Chooses a headless OpenGL before mujoco is imported; import this module first."""

import ctypes.util
import os

if "MUJOCO_GL" not in os.environ and "DISPLAY" not in os.environ:
    os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "osmesa"
# One software-rendering thread a process: rollouts use one process a core.
os.environ.setdefault("LP_NUM_THREADS", "1")
