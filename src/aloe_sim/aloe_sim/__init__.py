"""MuJoCo bimanual station, tasks, scripted expert and human, in-process rollouts."""
