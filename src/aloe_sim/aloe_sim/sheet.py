"""Contact sheets: one picture that shows a task to a person: start, middle, success, failure, and other looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_sim.disturb import Disturbance
from aloe_sim.expert import Expert
from aloe_sim.station import Station

WIDTH, HEIGHT = 320, 240  # of a tile
COLUMNS = 4
SEED = 3
_FINER = 2  # rendered so many times larger, then averaged: the renderer does not smooth edges
_BAR = 24  # pixels, of a line of text
_GAP = 4  # pixels, between columns
_INK, _PAPER = (20, 20, 20), (250, 250, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TRIES = 12  # episodes in which to look for a failure
_PUSH = 1.5  # m/s
_HOMEWARD = 2.0  # s
_AFTER = 0.2  # s from a failure to its picture: then it shows

Moment = tuple[str, np.ndarray]  # caption, snapshot


def write_sheet(contract: RobotContract, task: str, level: str, path: Path) -> None:
    """Write the sheet of a task as PNG; AloeError as Station, or if the expert does not succeed or the file cannot be
    written.

    Rows: the view for people and each contract camera in four moments; then starts of the held-out variant, and of the
    training variant under high randomisation.
    """
    station = Station(contract, task, level)
    try:
        moments = [*_success(station), _failure(station)]
        station.reset(SEED)
        rows = [_title(f'{task} / {level}: "{station.instruction}"'), _captions([text for text, _ in moments])]
        for camera in ("front", *(name for name in contract.camera_names if name != "front")):
            tiles = []
            for _, state in moments:
                station.restore(state)
                tiles.append(_tile(station, camera))
            rows.append(_row(tiles, camera))
    finally:
        station.close()
    rows += _looks(contract, task, level, "held_out", "none")
    rows += _looks(contract, task, level, "train", "high")
    # The last bit of a colour, which nobody sees, takes a fifth of the file.
    picture = np.concatenate(rows)[..., ::-1] & np.uint8(0xFE)
    png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    except OSError as error:
        raise AloeError(f"{path}: cannot be written ({error.strerror}).") from error


def _success(station: Station) -> Iterator[Moment]:
    """Yield start, middle and end of the expert's first success."""
    for seed in range(SEED, SEED + _TRIES):
        station.reset(seed)
        expert = Expert(station)
        states, stages = [station.snapshot()], [station.stage]
        while not (station.success or station.failure or station.tick >= station.steps_limit):
            station.step(expert.act())
            states.append(station.snapshot())
            stages.append(station.stage)
        if station.success:
            middle = next(i for i, stage in enumerate(stages) if stage >= 0.5)
            yield "start", states[0]
            yield f"middle, {middle * station.contract.dt:.1f} s, stage {stages[middle]:.1f}", states[middle]
            yield f"success, {station.time:.1f} s, hands back", _hands_back(station, expert)
            return
    raise AloeError(f"Task {station.task_name}, level {station.level}: the expert failed {_TRIES} times.")


def _hands_back(station: Station, expert: Expert) -> np.ndarray:
    """Return the success as it looks when the hands no longer hide it."""
    state = station.snapshot()
    for _ in range(round(_HOMEWARD / station.contract.dt)):
        station.step(expert.act())
        if not station.success:
            break
        state = station.snapshot()
    return state


def _failure(station: Station) -> Moment:
    """Return a failure: an item pushed away, else what a policy that knows nothing brings about."""
    for how, breaks in (("a push", _pushed_away), ("random actions", _broken_by_chance)):
        if any(breaks(station, seed) for seed in range(SEED, SEED + _TRIES)):
            when = station.time
            for _ in range(round(_AFTER / station.contract.dt)):
                station.step(station.joint_positions())
            return f"failure by {how}, {when:.1f} s", station.snapshot()
    return f"no failure in {2 * _TRIES} episodes", station.snapshot()


def _pushed_away(station: Station, seed: int) -> bool:
    station.reset(seed)
    try:
        station.disturb(Disturbance("nudge", speed=_PUSH, seed=seed))
    except AloeError:
        return False  # nothing moves freely: cloth
    home = station.home
    for _ in range(round(2.0 / station.contract.dt)):
        station.step(home)
        if station.failure:
            return True
    return False


def _broken_by_chance(station: Station, seed: int) -> bool:
    station.reset(seed)
    rng, contract = np.random.default_rng(seed), station.contract
    while station.tick < station.steps_limit:
        if station.tick % contract.chunk.execute == 0:
            target = rng.uniform(contract.lower, contract.upper)
        station.step(target)
        if station.failure:
            return True
    return False


def _looks(contract: RobotContract, task: str, level: str, variant: str, randomisation: str) -> list[np.ndarray]:
    """Return a line of text and a row of start states."""
    station = Station(contract, task, level, variant, randomisation=randomisation)
    try:
        tiles, words = [], []
        for seed in range(COLUMNS):
            station.reset(seed)
            tiles.append(_tile(station, "front"))
            words.append(station.instruction)
    finally:
        station.close()
    return [
        _title(f"variant {variant}, randomisation {randomisation}, seeds 0 to {COLUMNS - 1}"),
        _row(tiles, "front"),
        _captions(words),
    ]


def _tile(station: Station, camera: str) -> np.ndarray:
    """Return what a camera sees, [HEIGHT, WIDTH, 3], between bars where its pictures are narrower."""
    width, height = WIDTH, HEIGHT
    if camera in station.contract.camera_names:
        size = station.contract.camera(camera)
        scale = min(WIDTH / size.width, HEIGHT / size.height)
        width, height = round(size.width * scale), round(size.height * scale)
    image = station.view(camera, _FINER * width, _FINER * height)
    tile = np.full((HEIGHT, WIDTH, 3), _PAPER, np.uint8)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return tile


def _row(tiles: list[np.ndarray], name: str) -> np.ndarray:
    gap = np.full((HEIGHT, _GAP, 3), _PAPER, np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)], axis=1)
    (width, height), _ = cv2.getTextSize(name, _FONT, 0.5, 1)
    row[: height + 8, : width + 8] = _PAPER
    cv2.putText(row, name, (4, height + 4), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return row


def _title(text: str) -> np.ndarray:
    return _lines([_wrapped(text, 0.6, COLUMNS * WIDTH)], 0.6)


def _captions(texts: list[str]) -> np.ndarray:
    return _lines([_wrapped(text, 0.45, WIDTH) for text in texts], 0.45)


def _wrapped(text: str, size: float, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if cv2.getTextSize(longer, _FONT, size, 1)[0][0] <= width - 8:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _lines(columns: list[list[str]], size: float) -> np.ndarray:
    lines = np.full((_BAR * max(map(len, columns)), COLUMNS * (WIDTH + _GAP), 3), _PAPER, np.uint8)
    for i, column in enumerate(columns):
        for k, text in enumerate(column):
            place = (i * (WIDTH + _GAP) + 4, k * _BAR + 17)
            cv2.putText(lines, text, place, _FONT, size, _INK, 1, cv2.LINE_AA)
    return lines
