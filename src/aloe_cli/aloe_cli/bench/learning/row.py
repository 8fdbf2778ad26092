"""One run of the learning benchmark, in one process and one thread: collect, learn, measure, repeat."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from aloe_cli.bench.learning.plan import HUMANS, Budget, Row
from aloe_core.checkpoint import git_revision
from aloe_core.contract import load_contract
from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic import variants
from aloe_critic.evaluation import Scorer
from aloe_critic.evaluation.realised import Timeout
from aloe_critic.evaluation.report import figures
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job, Progress
from aloe_critic.learners import hyper_of
from aloe_critic.learners import method as find_method
from aloe_critic.replay import Replay
from aloe_critic.replay.objects import ObjectReplay
from aloe_critic.trainer import publish
from aloe_policy.config import FlowConfig
from aloe_policy.runtime import FlowRuntime, load_models
from aloe_sim.collect import Job as Episodes
from aloe_sim.collect import collect, summarise
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station

Say = Callable[[str], None]

CALIBRATION = ("spearman", "ece", "bias")  # of a critic, on the measured episodes of the last round


def warm_start(row: Row, budget: Budget, contract: str, out: str, say: Say = lambda _: None) -> Path:
    """Return the checkpoint of the clone of the demonstrations that all methods start from, trained if not there."""
    final = Path(out) / "warm" / row.warm_key
    if final.is_dir():
        return next(final.glob("v0001*"))
    replay = new_replay(contract, budget)
    for episode in demonstrations(row, budget, contract):
        replay.add(episode)
    part = final.with_suffix(".partial")
    shutil.rmtree(part, ignore_errors=True)
    improve("bc", replay, part, None, budget.overrides, row, contract, say)
    part.rename(final)
    return next(final.glob("v0001*"))


def finished(row: Row, out: str) -> dict[str, Any] | None:
    """Return the row of the table if it is in `out`/rows."""
    path = result_path(row, out)
    return json.loads(path.read_text()) if path.exists() else None


def adopt(result: Path, budget: Budget, contract: str, out: str) -> None:
    """Write the runs of a result to `out`/rows where they are missing.

    AloeError if it is not one, or of another budget or contract.
    """
    try:
        found = json.loads(result.read_text())
        rows = [(Row(*(kept[f.name] for f in fields(Row))), kept) for kept in found["rows"]]
        theirs = found["budget"] | {"contract": found["contract"]}
    except OSError as error:
        raise AloeError(f"{result}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AloeError(f"{result}: not a result of `bench learn`: {error!r}.") from error
    ours = asdict(budget) | {"contract": Path(contract).name}
    if differing := sorted(name for name in ours if ours[name] != theirs.get(name)):
        raise AloeError(f"{result}: its runs had another budget or contract ({', '.join(differing)}).")
    for row, kept in rows:
        if not finished(row, out):
            _write(row, kept, out)


def result_path(row: Row, out: str) -> Path:
    return Path(out) / "rows" / f"{row.key}.json"


def run(row: Row, budget: Budget, contract: str, out: str, say: Say = lambda _: None) -> dict[str, Any]:
    """Return the row of the table and write it to `out`/rows; a row that is there already is returned as it is."""
    if done := finished(row, out):
        return done
    start, revision = time.monotonic(), git_revision()
    checkpoint = warm_start(row, budget, contract, out, say)
    root = Path(out) / "runs" / row.key
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    replay = new_replay(contract, budget)
    for episode in demonstrations(row, budget, contract):
        replay.add(episode)
    shutil.copytree(checkpoint, root / checkpoint.name)
    checkpoint = root / checkpoint.name

    robot = load_contract(contract)
    changes = variants.overrides(row.variants, robot, make_hyper(budget.overrides).on(robot).stride)
    overrides = budget.overrides | changes
    interaction, successes = 0.0, 0
    curve = [_point(row, budget, contract, checkpoint, 0.0, 0, None)]
    station = Station(robot, row.task, row.level, render=budget.observe == "images")
    for number in range(1, budget.rounds + 1):
        say(f"{row.key}: round {number}, collecting")
        episodes = collect_round(row, budget, contract, station, checkpoint, number, successes)
        for episode in episodes:
            replay.add(episode)
        interaction += sum(e.steps * e.dt for e in episodes)
        successes += sum(e.outcome == Outcome.SUCCESS for e in episodes)
        checkpoint = improve(row.learner, replay, root, checkpoint, overrides, row, contract, say)
        human = sum(int((e.source == Source.HUMAN).sum()) for e in episodes) / max(1, sum(e.steps for e in episodes))
        final = number == budget.rounds
        curve.append(_point(row, budget, contract, checkpoint, interaction, successes, human, judged=final))
    station.close()
    last = curve[-1]
    result = asdict(row) | {
        "learner": row.learner,
        "variants": row.variants,
        "overrides": changes,
        "final_success": last["success"],
        "wilson_low": last["wilson_low"],
        "wilson_high": last["wilson_high"],
        "successes_per_hour": last["successes_per_hour"],
        "intervention_rate": last["intervention_rate"],
        "episode_length_s": last["mean_length_s"],
        "critic": last["critic"],
        "curve": curve,
        "revision": revision,
        "wall_s": round(time.monotonic() - start, 1),
    }
    _write(row, result, out)
    return result


def _write(row: Row, result: dict[str, Any], out: str) -> None:
    path = result_path(row, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".partial")
    part.write_text(json.dumps(result, indent=1))
    part.rename(path)


def new_replay(contract: str, budget: Budget) -> Replay:
    """Return an empty replay of what policies see."""
    robot = load_contract(contract)
    kind = ObjectReplay if budget.observe == "objects" else Replay
    return kind(robot, make_hyper(budget.overrides).on(robot).stride, FlowConfig.for_contract(robot).text_buckets)


def demonstrations(row: Row, budget: Budget, contract: str) -> list[EpisodeData]:
    """Return the run's demonstrations, the same ones whenever asked for."""
    job = Episodes(load_contract(contract), row.task, row.level, supervision="demonstrate", observe=budget.observe)
    return collect(job, range(row.seeds(0), row.seeds(0) + budget.demonstrations), processes=1)


def collect_round(
    row: Row, budget: Budget, contract: str, station: Station, checkpoint: Path, number: int, successes: int
) -> list[EpisodeData]:
    """Return supervised episodes of the policy until the round's share of the budget is spent.

    `successes`: those of the rounds before, which what `budget` allows of them up to this round includes.
    """
    runtime = load(str(checkpoint), contract)
    human = HUMANS[row.human]
    episodes: list[EpisodeData] = []
    spent, good = 0.0, successes
    while spent < budget.interaction / budget.rounds and not (
        budget.successes and good >= number * budget.successes / budget.rounds
    ):
        seed = row.seeds(number) + len(episodes)
        episodes.append(run_episode(station, seed, runtime, "supervise", human, observe=budget.observe))
        spent += episodes[-1].steps * episodes[-1].dt
        good += episodes[-1].outcome == Outcome.SUCCESS
    return episodes


def improve(
    method: str,
    replay: Replay,
    root: Path,
    start: Path | None,
    overrides: dict[str, Any],
    row: Row,
    contract: str,
    say: Say,
    *,
    new_critic: bool = False,
    notes: list[str] | None = None,
) -> Path:
    """Run one iteration of a method and return the checkpoint it published to `root`.

    `new_critic`: that of `start` does not go on learning. The job's notes are added to `notes`.
    """
    robot = load_contract(contract)
    hyper = hyper_of(method, {"threads": 1, "seed": row.seed} | overrides, robot)
    torch.manual_seed(hyper.seed)
    torch.set_num_threads(hyper.threads)
    job = Job(robot, replay, hyper, _progress(row, method, say))
    if start is not None:
        job.start_from(load_models(start, robot))
        job.critic = None if new_critic else job.critic
    learned = find_method(method)(job)
    if notes is not None:
        notes += job.notes
    return publish(root, method, learned, hyper, robot, start.name if start else "")


def _progress(row: Row, method: str, say: Say) -> Progress:
    def progress(phase: str, step: int, steps: int, _loss: float) -> None:
        if step in (0, steps):
            say(f"{row.key}: {method}, {phase} {step}/{steps}")

    return progress


def _point(
    row: Row,
    budget: Budget,
    contract: str,
    checkpoint: Path,
    interaction: float,
    successes: int,
    intervention: float | None,
    *,
    judged: bool = False,
) -> dict[str, Any]:
    """Return how the checkpoint does by itself and what it cost so far; `judged` (the last): how right its critic."""
    job = Episodes(
        load_contract(contract),
        row.task,
        row.level,
        make_policy=functools.partial(load, str(checkpoint), contract),
        record=judged,
        observe=budget.observe,
    )
    count = (budget.evaluated_last if judged else 0) or budget.evaluated
    episodes = collect(job, range(row.eval_seed(), row.eval_seed() + count), processes=1)
    found = summarise(episodes)
    hours = found.mean_length * found.episodes / 3600
    return {
        "interaction_s": round(interaction, 2),
        "successes": successes,
        "success": found.success,
        "wilson_low": found.wilson_low,
        "wilson_high": found.wilson_high,
        "episodes": found.episodes,
        "mean_length_s": found.mean_length,
        "successes_per_hour": found.successes / hours,
        "intervention_rate": intervention,
        "checkpoint": checkpoint.name,
        "critic": calibration(checkpoint, contract, episodes) if judged else None,
    }


def calibration(checkpoint: Path, contract: str, episodes: list[EpisodeData]) -> dict[str, float | None] | None:
    """How the values of the chunks that ran agree with what followed, in episodes of the policy alone.

    With N candidates these are the chunks that the critic liked best, so that the more it is exploited, the larger
    `bias` (Q - return) and `ece` become. None without a critic.
    """
    robot = load_contract(contract)
    models = load_models(checkpoint, robot)
    if models.critic is None:
        return None
    scorer = Scorer(models, robot, samples=1)
    timeout: Timeout = "continued" if scorer.scale.gamma < 1 else "failed"
    found = figures([scorer.score(e) for e in episodes], scorer.scale, timeout=timeout, resamples=0)
    return {name: found[name]["value"] for name in CALIBRATION}


def candidates(checkpoint: str | Path) -> int:
    """Return of how many chunks the best is to run, as its learner asked for."""
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    count = config.get("candidates")
    if not isinstance(count, int):
        raise AloeError(f"{checkpoint}/config.json: candidates = {count!r}: expected a number.")
    return count


def load(checkpoint: str, contract: str, count: int = 0) -> FlowRuntime:
    """Return the checkpoint as it would run on the robot; `count` asks for so many chunks instead of its learner's."""
    robot = load_contract(contract)
    return FlowRuntime(load_models(checkpoint, robot), robot, count or candidates(checkpoint))
