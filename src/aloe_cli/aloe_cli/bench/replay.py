"""`./aloe bench replay`: how fast bags become a store, and how fast batches come out of one that exceeds its cache."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bench import replay_memory
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.replay_memory import BATCH, BUCKETS, SCORES, STRIDE
from aloe_cli.bench.synthetic_bags import Messages, write_bag
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_critic.replay import Replay, ReplayStore, Sampler, Windows, load_bags
from aloe_critic.replay.bags import find_bags, update
from aloe_critic.replay.frames import CACHE_BYTES
from aloe_critic.replay.sampling import human_or_not
from aloe_critic.replay.store import BLOCKS, FRAMES

COLD_BYTES = 32 << 20
DISTINCT = 8  # synthetic bags; the rest are copies, which are as much work to read

app = VerbApp(help="Measure the replay store.")


@app.command()
def replay(
    bags: Annotated[list[Path] | None, typer.Option(help="Folder of recorded bags in place of synthetic ones.")] = None,
    episodes: Annotated[
        int, typer.Option(help="Bags in the data set; those there are get copied until it is full.")
    ] = 200,
    seconds: Annotated[float, typer.Option(help="Length of a synthetic episode.")] = 8.0,
    cache_mb: Annotated[float, typer.Option(help="Budget for decoded frames.")] = CACHE_BYTES / 2**20,
    measure: Annotated[float, typer.Option(help="Wall seconds of each measurement.")] = 5.0,
    hours: Annotated[
        list[float] | None,
        typer.Option(help="Also measure memory and speed at this size, the episodes counting repeatedly; repeatable."),
    ] = None,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Index bags, then draw batches of chunk transitions with images before and after.

    cold: files dropped from the page cache, hardly any frame is found decoded; warm: after the cache has filled, of a
    data set larger than it; cached: of episodes that fit into it. transitions_per_s is the least of cold and warm.
    With --hours each size is opened and drawn from in a process of its own (`sizes`).
    """
    robot = load_contract(paths.contract(contract))
    sizes = [("hours", value) for value in hours or []]
    for name, value in (
        *(("episodes", episodes), ("seconds", seconds), ("cache-mb", cache_mb), ("measure", measure)),
        *sizes,
    ):
        if value <= 0:
            raise AloeError(f"{name} = {value:g}: expected more than 0.")
    with tempfile.TemporaryDirectory(prefix="aloe-bench-") as work:
        folder = _bags(Path(work), robot, bags or [], episodes, seconds)
        store, cache = Path(work) / "store", int(cache_mb * 2**20)
        row = run(folder, store, robot, cache_bytes=cache, measure=measure)
        row["sizes"] = [
            replay_memory.measure(store, paths.contract(contract), value, cache, measure) for _, value in sizes
        ]
    row["hardware"] = hardware()
    _print(row)
    return row


def run(bags: Path, store_dir: Path, contract: RobotContract, *, cache_bytes: int, measure: float) -> dict[str, Any]:
    """Measure indexing of `bags` into a new store, and what can be drawn from it."""
    torch.set_num_threads(1)  # decoding has threads of its own; on a busy machine OpenMP's would wait for each other
    store = ReplayStore(store_dir, contract)
    sources = find_bags([bags])
    start = time.perf_counter()
    with progress("index", len(sources)) as bar:
        set_aside = update(store, sources, lambda *_: bar.advance())
    index = time.perf_counter() - start
    if set_aside:
        raise AloeError(f"{len(set_aside)} of {len(sources)} bags are of no use: {next(iter(set_aside.values()))}")
    recorded = sum(entry.steps * entry.dt for entry in store.entries.values())
    _forget_pages(store_dir)

    start = time.perf_counter()
    data, windows = _open(store_dir, contract, bags, cache_bytes)
    opened = time.perf_counter() - start
    everything = Sampler(torch.ones(len(windows)), groups=human_or_not(windows))
    small, _ = _open(store_dir, contract, bags, min(COLD_BYTES, cache_bytes))
    cpu = time.process_time()
    cold = _rate(small, windows, everything, measure)
    cpu = (time.process_time() - cpu) / (cold * measure)
    del small
    frames = int(data.frame_index().max()) + 1
    while data.cache.kept < 0.95 * min(frames, data.cache.capacity):
        _rate(data, windows, everything, 0.1)
    warm = _rate(data, windows, everything, measure)
    share = data.cache.kept / frames
    few = windows.episode < 0.8 * share * len(data.episodes)
    cached = None
    if share < 0.95 and bool(few.any()):
        subset = Sampler(few.double())
        rows = torch.unique(torch.cat([windows.obs[few], windows.next_obs[few]]))
        for _ in range(3):  # the first passes push some of their own frames out
            for part in rows.split(BATCH):
                data.pixels(part)
        cached = round(_rate(data, windows, subset, measure), 1)
    return {
        "transitions_per_s": round(min(cold, warm), 1),
        "index_realtime_factor": round(recorded / index, 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "transitions_per_s_cold": round(cold, 1),
        "transitions_per_s_warm": round(warm, 1),
        "transitions_per_s_cached": cached if cached is not None else round(warm, 1),
        "cpu_us_per_transition_cold": round(1e6 * cpu, 1),
        "open_s": round(opened, 3),
        "episodes": len(data.episodes),
        "transitions": len(windows),
        "recorded_s": round(recorded, 1),
        "store_gb": round(sum(file.stat().st_size for file in store_dir.rglob("*") if file.is_file()) / 1e9, 3),
        "decoded_gb": round(frames * contract.cameras[0].height * contract.cameras[0].width * 3 / 1e9, 3),
        "cache_gb": round(cache_bytes / 1e9, 3),
        "jpeg_bytes": round(float(np.mean([len(j) for f in data.episodes[0].frames.values() for j in f.jpegs]))),
    }


def _open(store_dir: Path, contract: RobotContract, bags: Path, cache_bytes: int) -> tuple[Replay, Windows]:
    data = Replay(contract, STRIDE, BUCKETS, cache_bytes=cache_bytes)
    load_bags(data, [bags], contract, store=ReplayStore(store_dir, contract))
    return data, data.windows(**SCORES)


def _rate(data: Replay, windows: Windows, sampler: Sampler, seconds: float) -> float:
    """Return transitions a second: images, state and text before and after, chunk, reward and discount."""
    drawn, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        pick = sampler.draw(BATCH)
        data.batch(windows.obs[pick])
        data.batch(windows.next_obs[pick])
        _ = windows.chunk[pick], windows.reward[pick], windows.discount[pick]
        drawn += BATCH
    return drawn / spent


def _bags(work: Path, contract: RobotContract, given: list[Path], episodes: int, seconds: float) -> Path:
    """Fill a folder with `episodes` bags."""
    folder = work / "bags"
    folder.mkdir()
    if given:
        originals = [Path(bag.name) for bag in find_bags(given)][:episodes]
        if not originals:
            raise AloeError(f"{', '.join(map(str, given))}: no bags.")
    else:
        (work / "originals").mkdir()
        messages = Messages()
        count = min(DISTINCT, episodes)
        originals = [
            write_bag(work / "originals", contract, messages, seconds=seconds, seed=seed) for seed in range(count)
        ]
    with progress("bags", episodes) as bar:
        for number in range(episodes):
            shutil.copytree(originals[number % len(originals)], folder / f"{number:06d}")
            bar.advance()
    return folder


def _forget_pages(store: Path) -> None:
    """Drop the store's files from the page cache of the system."""
    for name in (BLOCKS, FRAMES):
        descriptor = os.open(store / name, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _print(row: dict[str, Any]) -> None:
    table = Table("", "", box=None, pad_edge=False, show_header=False)
    for key, value in row.items():
        table.add_row(key, str(value))
    Console().print(table)
