"""How much memory a replay takes, and how fast it is, as its store grows: each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from aloe_core.contract import RobotContract, load_contract
from aloe_critic.replay import Replay, ReplayStore, Sampler
from aloe_critic.replay.sampling import human_or_not

SCORES = {"gamma": 0.998, "max_length": 400, "failure_cost": 150}
BATCH, STRIDE, BUCKETS = 256, 5, 512


def grow(store: ReplayStore, hours: float) -> list[str]:
    """Let the store's episodes count again and again under other names; return the names of `hours` of them."""
    entries = [entry for entry in store.entries.values() if not entry.reason]
    names, recorded = [], 0.0
    with store.appending():
        while recorded < 3600 * hours:
            entry = entries[len(names) % len(entries)]
            names.append(f"again/{len(names)}")
            if store.known(names[-1], entry.signature) is None:
                store.share(entry, names[-1], entry.signature)
            recorded += entry.steps * entry.dt
    return names


def measure(store_dir: Path, contract: Path, hours: float, cache_bytes: int, seconds: float) -> dict[str, Any]:
    """Run `sized` in another process, whose peak memory is its own."""
    words = [str(store_dir), str(contract), str(hours), str(cache_bytes), str(seconds)]
    done = subprocess.run([sys.executable, "-m", __name__, *words], stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def sized(store_dir: Path, contract: RobotContract, hours: float, cache_bytes: int, seconds: float) -> dict[str, Any]:
    """Open a store of `hours`, twice, and draw from it until frames fill the cache, then for `seconds`."""
    torch.set_num_threads(1)
    empty = _peak_gb()
    names = grow(ReplayStore(store_dir, contract), hours)
    opened = []
    for _ in range(2):
        start = time.perf_counter()
        replay = Replay(contract, STRIDE, BUCKETS, cache_bytes=cache_bytes)
        replay.attach(ReplayStore(store_dir, contract), names)
        windows = replay.windows(**SCORES)
        opened.append(time.perf_counter() - start)
    sampler = Sampler(torch.ones(len(windows)), groups=human_or_not(windows))
    full = min(replay.cache.capacity, int(replay.frame_index()[-1].max()))
    drawn, start, warm = 0, 0.0, False
    while not warm or time.perf_counter() - start < seconds:
        pick = sampler.draw(BATCH)
        replay.batch(windows.obs[pick])
        replay.batch(windows.next_obs[pick])
        _ = windows.chunk[pick], windows.reward[pick], windows.discount[pick]
        if not warm and replay.cache.kept >= 0.9 * full:
            warm, drawn, start, cpu = True, 0, time.perf_counter(), time.process_time()
        drawn += BATCH
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "hours": hours,
        "episodes": len(replay.episodes),
        "transitions": len(windows),
        "open_new_s": round(opened[0], 2),
        "open_again_s": round(opened[1], 2),
        "transitions_per_s": round(drawn / spent, 1),
        "cpu_us_per_transition": round(1e6 * cpu / drawn, 1),
        "peak_rss_gb": round(_peak_gb(), 3),
        "imports_gb": round(empty, 3),
        "view_gb": round(sum(f.stat().st_size for f in store_dir.glob("view-*/*")) / 1e9, 3),
    }


def _peak_gb() -> float:
    # getrusage would count the process that started this one, whose memory it shared before it became another.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    store_, contract_, hours_, cache_, seconds_ = sys.argv[1:]
    print(json.dumps(sized(Path(store_), load_contract(contract_), float(hours_), int(cache_), float(seconds_))))
