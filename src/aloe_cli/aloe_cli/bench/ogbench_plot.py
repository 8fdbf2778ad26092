"""The OGBench comparison as a picture: our intervals and seeds, the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from aloe_cli.bench.ogbench_table import Line


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draw success by method, a panel for each task."""
    tasks = list(dict.fromkeys(line.task for line in lines))
    figure, axes = plt.subplots(1, len(tasks), figsize=(1.2 + 3.2 * len(tasks), 3.6), squeeze=False, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        mine = [line for line in lines if line.task == task]
        for x, line in enumerate(mine):
            below, above = line.success - line.low, line.high - line.success
            axis.errorbar(x, line.success, [[below], [above]], fmt="o", color="C0", capsize=4, label="here (95 %)")
            axis.plot([x + 0.12] * len(line.seeds), line.seeds, ".", color="C7", label="seeds")
            for text, marker, when in zip(line.paper, ("v", "^"), ("100,000", "1,000,000"), strict=True):
                if text != "-":
                    axis.plot(x - 0.15, float(text.split()[0]), marker, color="C3", label=f"paper, {when} updates")
        axis.set(title=task, xlim=(-0.5, len(mine) - 0.5), ylim=(-0.03, 1.03))
        axis.set_xticks(range(len(mine)), [line.method for line in mine])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("success")
    named = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0][-1].legend(named.values(), named.keys(), fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
