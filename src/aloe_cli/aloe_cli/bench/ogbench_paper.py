"""What the Q-chunking paper reports (arXiv 2507.07969, the plot data its authors released), to print beside ours."""

from __future__ import annotations

# Method here -> name there. BFN: best of N chunks of a cloned flow policy, of one action; -n: with n-step returns.
NAMES = {"qc": "QC", "nstep": "BFN-n", "td1": "BFN"}

# (task, method) -> success (95 % interval) after 100,000 and after 1,000,000 offline updates; no online ones.
FIGURES = {
    ("cube-double-task1", "qc"): ("0.46 (0.36 to 0.56)", "0.82 (0.81 to 0.84)"),
    ("cube-double-task1", "nstep"): ("0.03 (0.00 to 0.06)", "0.13 (0.12 to 0.14)"),
    ("cube-double-task1", "td1"): ("0.19 (0.13 to 0.25)", "0.73 (0.70 to 0.77)"),
    ("cube-double-task2", "qc"): ("0.03 (0.01 to 0.04)", "0.72 (0.62 to 0.82)"),
    ("cube-double-task2", "nstep"): ("0.00 (0.00 to 0.00)", "0.05 (0.01 to 0.10)"),
    ("cube-double-task2", "td1"): ("0.01 (0.00 to 0.02)", "0.78 (0.74 to 0.81)"),
    ("cube-triple-task1", "qc"): ("0.08 (0.05 to 0.12)", "0.23 (0.19 to 0.30)"),
    ("cube-triple-task1", "nstep"): ("0.00 (0.00 to 0.00)", "0.01 (0.00 to 0.03)"),
    ("cube-triple-task1", "td1"): ("0.03 (0.01 to 0.05)", "0.28 (0.17 to 0.38)"),
    ("cube-triple-task2", "qc"): ("0.00 (0.00 to 0.00)", "0.00 (0.00 to 0.00)"),
    ("cube-triple-task2", "nstep"): ("0.00 (0.00 to 0.00)", "0.00 (0.00 to 0.00)"),
    ("cube-triple-task2", "td1"): ("0.00 (0.00 to 0.00)", "0.01 (0.00 to 0.02)"),
}
