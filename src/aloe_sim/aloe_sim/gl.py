"""Chooses a headless OpenGL before mujoco is imported; import this module first."""

import ctypes.util
import os

if "MUJOCO_GL" not in os.environ:
    if ctypes.util.find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"
    elif ctypes.util.find_library("OSMesa"):
        os.environ["MUJOCO_GL"] = "osmesa"
    elif "DISPLAY" not in os.environ:
        os.environ["MUJOCO_GL"] = "disable"  # physics still works; asking for a frame says what is missing
# One software-rendering thread a process: rollouts use one process a core.
os.environ.setdefault("LP_NUM_THREADS", "1")
