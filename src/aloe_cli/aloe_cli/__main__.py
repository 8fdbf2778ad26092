"""Entry point of `./aloe`; knows the verbs by name and imports only the one that runs."""

from __future__ import annotations

import typer

from aloe_cli.lazy import lazy_app

VERBS = {
    "doctor": "What is installed, what is missing, what to do about it.",
    "launch": "Start a launch file; the same syntax as ros2 launch.",
    "demo": "The whole loop on the simulator: demonstrate, clone, supervise, improve, measure.",
    "bag": "Look into, check, recover and list recorded episodes.",
    "train": "Train a policy and its critic from a folder of bags.",
    "eval": "Measure the success rate of a policy on the simulator.",
    "bench": "Measure how fast things are and how well they learn.",
    "policy-server": "Serve a policy to robots that have no room for it.",
    "checkpoint": "List, show, promote and roll back checkpoints.",
}
HIDDEN = {"docs": "Write the generated parts of the documentation."}  # for developers of the suite


def main() -> None:
    """Run one verb and exit with its code."""
    app = lazy_app(
        "aloe_cli.verbs",
        VERBS,
        HIDDEN,
        name="aloe",
        help="ALOE for ROS 2: teach a robot policy by demonstration, supervision and off-policy improvement.",
    )
    typer.main.get_command(app)(prog_name="aloe")


if __name__ == "__main__":
    main()
