"""`./aloe bench record` on a second of two small streams: real processes, real DDS, a real bag."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from aloe_cli.bench import BENCHMARKS
from aloe_cli.bench.record import app


def run(*words: str, code: int = 0) -> dict:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_what_was_sent_is_counted_against_what_is_in_the_bag():
    row = run("--seconds", "1", "--cameras", "2", "--camera-hz", "10", "--control-hz", "50")
    assert row["topics"] == {
        "/cameras/camera_0/image_raw/compressed": {"expected": 10, "received": 10},
        "/cameras/camera_1/image_raw/compressed": {"expected": 10, "received": 10},
        "/joint_states": {"expected": 50, "received": 50},
        "/control/executed": {"expected": 50, "received": 50},
    }
    assert (row["received"], row["expected"], row["dropped"]) == (120, 120, 0)
    assert 0 < row["cpu_cores"] < 2 and row["hardware"]
    assert "record" in BENCHMARKS


@pytest.mark.parametrize("option", ["--seconds", "--cameras", "--control-hz"])
def test_a_load_of_nothing_is_refused(option):
    assert "expected more than 0" in run(option, "0", code=2)["error"]
