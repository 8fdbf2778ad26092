"""The `./aloe` command: one file per verb in `aloe_cli.verbs`, imported only when that verb runs."""
