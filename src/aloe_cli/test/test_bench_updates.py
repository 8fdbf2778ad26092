"""`./aloe bench updates`: both rates, and one sentence for a precision that does not exist."""

from __future__ import annotations

import torch

from cli_tools import fails_in_one_sentence, result


def test_updates_gives_rates_that_fit_the_time_and_leaves_the_threads_alone(run):
    before = torch.get_num_threads()
    row = result(run("bench", "updates", "--steps", 3, "--batch", 16, "--threads", 1, "--json"))
    assert torch.get_num_threads() == before
    spent = 3 / row["critic_updates_per_s"] + 3 / row["actor_updates_per_s"]
    assert abs(spent - row["wall_s"]) < 1e-6 and row["wall_s"] > 0
    assert row["heads"] == 5 and row["threads"] == 1 and "cores" in row["hardware"]


def test_unknown_precision_is_named(run):
    done = run("bench", "updates", "--precision", "half")
    assert fails_in_one_sentence(done, 2) and "precision = 'half'" in done.stderr
