"""MuJoCo bimanual station, tasks, scripted expert and human, in-process rollouts."""

from aloe_sim import gl  # sets MUJOCO_GL, which must happen before mujoco is imported

__all__ = ["gl"]
