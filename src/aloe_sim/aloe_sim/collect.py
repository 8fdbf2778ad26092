"""Many episodes over a few processes, and the success rate of a policy."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import active_children, get_context, parent_process
from typing import Literal

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.statistics import wilson
from aloe_core.types import PolicyRuntime
from aloe_sim.disturb import Disturbances
from aloe_sim.human import HumanConfig, Supervision
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station

MakePolicy = Callable[[], PolicyRuntime]
Progress = Callable[[int, int, EpisodeData], None]  # done, total, the episode just finished


@dataclass(frozen=True)
class Job:
    """What every worker needs to run episodes."""

    contract: RobotContract
    task: str = "sorting"
    level: str = "easy"
    variant: str = "train"
    supervision: Supervision = "watch"
    make_policy: MakePolicy | None = None  # must be importable by name (a function or a functools.partial of one)
    human: HumanConfig | None = None
    time_limit: float = 0.0  # s; 0 = the task's own
    record: bool = True
    randomisation: str = "none"
    disturbances: Disturbances | None = None
    observe: Literal["images", "objects"] = "images"
    delay: int = 0  # control steps from an observation to its chunk


def collect(job: Job, seeds: Sequence[int], processes: int = 0, progress: Progress | None = None) -> list[EpisodeData]:
    """Run one episode a seed and return them in the order of `seeds`; `processes` 0 means one per core.

    With one process everything runs in this one. The result does not depend on `processes`. An error of a worker is
    raised here as it is; then, as on Ctrl-C, the others are stopped at once.
    """
    processes = min(processes or len(os.sched_getaffinity(0)), len(seeds))
    if processes <= 1:
        return list(_in_process(job, seeds, progress))
    with single_threaded(), ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (job,)) as pool:
        others = set(active_children())
        with _without_interrupts():
            futures = {pool.submit(_run, seed): i for i, seed in enumerate(seeds)}
        episodes: dict[int, EpisodeData] = {}
        try:
            for future in as_completed(futures):
                episodes[futures[future]] = future.result()
                if progress:
                    progress(len(episodes), len(seeds), future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise
    return [episodes[i] for i in range(len(seeds))]


@dataclass(frozen=True)
class Evaluation:
    """How a policy did, with the 95 % Wilson interval of its success rate."""

    successes: int
    episodes: int
    wilson_low: float
    wilson_high: float
    mean_length: float  # s
    mean_success_length: float  # s; NaN without successes
    intervention_rate: float  # share of steps the person drove

    @property
    def success(self) -> float:
        return self.successes / self.episodes


def summarise(episodes: Sequence[EpisodeData]) -> Evaluation:
    """Return the evaluation of at least one episode."""
    good = [e.outcome == Outcome.SUCCESS for e in episodes]
    lengths = np.array([e.steps * e.dt for e in episodes])
    human = sum(int((e.source == Source.HUMAN).sum()) for e in episodes)
    low, high = wilson(sum(good), len(good))
    return Evaluation(
        successes=sum(good),
        episodes=len(good),
        wilson_low=low,
        wilson_high=high,
        mean_length=float(lengths.mean()),
        mean_success_length=float(lengths[good].mean()) if any(good) else float("nan"),
        intervention_rate=human / max(1, sum(e.steps for e in episodes)),
    )


def evaluate(job: Job, seeds: Sequence[int], processes: int = 0, progress: Progress | None = None) -> Evaluation:
    """Run the job's policy once per seed and return how it did."""
    return summarise(collect(job, seeds, processes, progress))


class _Worker:
    """A station and a policy that live as long as their process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._station = Station(
            job.contract,
            job.task,
            job.level,
            job.variant,
            randomisation=job.randomisation,
            disturbances=job.disturbances,
            render=job.observe == "images",
        )
        self._policy = job.make_policy() if job.make_policy else None

    def run(self, seed: int) -> EpisodeData:
        job = self._job
        return run_episode(
            self._station,
            seed,
            self._policy,
            job.supervision,
            job.human,
            time_limit=job.time_limit,
            record=job.record,
            observe=job.observe,
            delay=job.delay,
        )

    def close(self) -> None:
        self._station.close()


_job: Job | None = None  # of this worker process


def _start_worker(job: Job) -> None:
    global _job
    _job = job
    follow_parent()


def follow_parent() -> None:
    """Initializer of worker processes: they end with their parent, however it dies, and not after their work."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this process when its parent has died without a word; it would finish its work and wait for more."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@cache
def _worker() -> _Worker:
    """The worker of this process, made with its first episode so that what is wrong reaches the caller."""
    assert _job is not None
    return _Worker(_job)


def _run(seed: int) -> EpisodeData:
    return _worker().run(seed)


def _in_process(job: Job, seeds: Sequence[int], progress: Progress | None) -> Iterator[EpisodeData]:
    worker = _Worker(job)
    try:
        for i, seed in enumerate(seeds):
            episode = worker.run(seed)
            if progress:
                progress(i + 1, len(seeds), episode)
            yield episode
    finally:
        worker.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits until this ends; processes started meanwhile never see it: their parent stops them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Children inherit one thread for linear algebra and one for rendering: the processes are the parallelism."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
