"""`./aloe bench replay` on a handful of short bags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aloe_cli.bench import BENCHMARKS
from aloe_cli.bench.replay import app
from aloe_core.contract import load_contract
from aloe_core.episode.data import Source
from aloe_core.episode.reader import read_episode

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "config" / "robots" / "aloha_sim.yaml"


def test_the_figures_are_those_of_the_data_that_were_made():
    words = ["--episodes", "5", "--seconds", "1", "--cache-mb", "1", "--measure", "0.1", "--contract", str(CONTRACT)]
    result = CliRunner().invoke(app, [*words, "--hours", "0.01", "--json"])
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout.splitlines()[-1])
    assert row["episodes"] == 5 and row["recorded_s"] == 5.0 and row["hardware"]
    assert row["transitions"] == 5 * 2 * 5  # half a second each of rollout and takeover, a window every five steps
    assert 0 < row["transitions_per_s"] == min(row["transitions_per_s_cold"], row["transitions_per_s_warm"])
    assert row["index_realtime_factor"] > 1 and 0.05 < row["peak_rss_gb"] < 4
    assert row["decoded_gb"] > row["cache_gb"]
    assert "replay" in BENCHMARKS
    (size,) = row["sizes"]
    assert size["episodes"] == 36 and size["transitions"] == 36 * 10  # 36 s of episodes of one second
    assert size["transitions_per_s"] > 0 and 0.05 < size["imports_gb"] < size["peak_rss_gb"] < 4


def test_synthetic_bags_are_whole_episodes(tmp_path):
    from aloe_cli.bench.synthetic_bags import Messages, write_bag

    contract = load_contract(CONTRACT)
    ep = read_episode(write_bag(tmp_path, contract, Messages(), seconds=1.0, seed=1), contract)
    assert ep.steps == 50 and ep.terminated and ep.breaks == ()
    assert ep.source.tolist() == [int(Source.POLICY)] * 25 + [int(Source.HUMAN)] * 25
    assert all(len(frames.jpegs) == 11 for frames in ep.frames.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--episodes", "0"], "episodes = 0"),
        (["--hours", "-1"], "hours = -1"),
        (["--bags", "nowhere"], "no such folder"),
    ],
)
def test_bad_options_are_one_sentence(words, says):
    result = CliRunner().invoke(app, [*words, "--contract", str(CONTRACT)])
    assert result.exit_code != 0 and says in result.output and "Traceback" not in result.output
