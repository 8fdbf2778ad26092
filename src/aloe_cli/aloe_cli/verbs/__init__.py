"""One verb per file.

`verbs/<name>.py` defines `app = VerbApp()` (aloe_cli.command) and registers functions with `@app.command()`: one for a
plain verb, several for `./aloe checkpoint list|show|…`. A function returns None or a dict; `--json` and `--debug` are
added by VerbApp; with `--json` the dict becomes the last line of standard output, and its `exit_code`, if it has one,
is that of the command. Bad input raises AloeError (exit 2), work that did not succeed raises AloeFailure (exit 1).
List the verb in `aloe_cli.__main__.VERBS`.
"""
