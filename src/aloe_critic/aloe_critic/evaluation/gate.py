"""May this update be published? Thresholds from YAML against the figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aloe_core.errors import AloeError


class Thresholds(BaseModel):
    """What an update must reach; None = not asked for. Reasons stand in config/gate.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["autonomous", "all"] = "autonomous"  # whose figures of the report count
    abstain: Literal["publish", "refuse"] = "publish"  # an update that could not be judged
    min_episodes: int = Field(10, ge=1)  # episodes below which a figure is not judged
    min_chunks: int = Field(100, ge=1)
    min_takeovers: int = Field(10, ge=1)  # likewise, for `ranking`
    min_spearman: float | None = Field(0.5, ge=-1, le=1)
    min_auc_50: float | None = Field(0.6, ge=0, le=1)
    min_ranking: float | None = Field(0.5, ge=0, le=1)
    max_ece: float | None = Field(0.5, gt=0)
    min_value_change: float | None = -0.05  # of the shadow evaluation, likewise below
    max_deviation: float | None = Field(0.4, gt=0)
    max_outside: float | None = Field(0.05, ge=0, le=1)


@dataclass(frozen=True)
class Verdict:
    """What the gate says; `refusals` and `abstentions` are sentences that name figure, value and threshold."""

    refusals: tuple[str, ...]
    abstentions: tuple[str, ...]


def load_thresholds(path: Path) -> Thresholds:
    """Read a YAML file of thresholds; AloeError names the key, its value and what was expected."""
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AloeError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise AloeError(f"{path}: expected lines of `name: value`, got {type(data).__name__}.")
    try:
        return Thresholds.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise AloeError(f"{path}: {key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error


def gate(report: Mapping[str, Any], thresholds: Thresholds) -> list[str]:
    """Return why an update must not be published, one sentence each; empty = publish it.

    `report` is that of `evaluate`, with the result of `shadow` under "shadow" where there is one.
    """
    verdict = judge(report, thresholds)
    unsure = [f"Update not judged, and abstain = 'refuse': {text}" for text in verdict.abstentions]
    return [*verdict.refusals, *(unsure if thresholds.abstain == "refuse" else [])]


def judge(report: Mapping[str, Any], thresholds: Thresholds) -> Verdict:
    """Compare every figure that has a threshold; one that rests on too little is neither good nor bad."""
    refusals, abstentions = [], []
    figures = report[thresholds.scope]
    for key, limit in thresholds.model_dump().items():
        name = key.removeprefix("min_").removeprefix("max_")
        if name not in ("spearman", "auc_50", "ranking", "ece") or limit is None:
            continue
        # Without a person there is no takeover, so ranking comes from all episodes whatever the scope.
        found = report["all"][name] if name == "ranking" else figures[name]
        few = _few(name, found, thresholds)
        if few:
            abstentions.append(f"{name}: {few}.")
        elif _worse(key, found["value"], limit):
            refusals.append(_refusal(name, found["value"], key, limit))
    shadow = report.get("shadow")
    if shadow is None:
        abstentions.append("shadow: no previous policy to compare with.")
        return Verdict(tuple(refusals), tuple(abstentions))
    if shadow["episodes"] < thresholds.min_episodes:
        few = f"{shadow['episodes']} episodes, expected at least {thresholds.min_episodes}"
        return Verdict(tuple(refusals), (*abstentions, f"shadow: {few}."))
    if thresholds.min_value_change is not None:
        change = shadow["value_change"]
        # The whole interval must lie below: noise alone refuses no update.
        high = change["high"] if change["high"] is not None else change["value"]
        if high < thresholds.min_value_change:
            refusals.append(
                _refusal("shadow.value_change (upper end)", high, "min_value_change", thresholds.min_value_change)
            )
    for name in ("deviation", "outside"):
        limit = getattr(thresholds, f"max_{name}")
        if limit is not None and shadow[name] > limit:
            refusals.append(_refusal(f"shadow.{name}", shadow[name], f"max_{name}", limit))
    return Verdict(tuple(refusals), tuple(abstentions))


def _few(name: str, found: Mapping[str, Any], thresholds: Thresholds) -> str:
    """Return what is missing for a figure to be judged, empty if nothing is."""
    if found["value"] is None:
        return str(found["reason"])
    samples, least = found["samples"], {"spearman": thresholds.min_chunks, "ece": thresholds.min_chunks}
    if name == "ranking":
        return "" if samples >= thresholds.min_takeovers else _at_least(samples, "takeovers", thresholds.min_takeovers)
    if found["episodes"] < thresholds.min_episodes:
        return _at_least(found["episodes"], "episodes", thresholds.min_episodes)
    return _at_least(samples, "chunks", least[name]) if samples < least.get(name, 0) else ""


def _at_least(count: int, what: str, limit: int) -> str:
    return f"{count} {what}, expected at least {limit}"


def _worse(key: str, value: float, limit: float) -> bool:
    return value < limit if key.startswith("min_") else value > limit


def _refusal(name: str, value: float, key: str, limit: float) -> str:
    bound = "at least" if key.startswith("min_") else "at most"
    return f"Update refused: {name} = {value:.3f}: expected {bound} {limit:g} ({key})."
