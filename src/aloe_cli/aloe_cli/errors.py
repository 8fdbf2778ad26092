"""Exit codes of `./aloe`: 0 done, 1 failure, 2 bad input."""

from aloe_core.errors import AloeError

BAD_INPUT = 2
FAILURE = 1


class AloeFailure(AloeError):
    """The input was good but the work did not succeed; one sentence, exit code 1."""


def exit_code(error: AloeError) -> int:
    """Return the exit code that `error` stands for."""
    return FAILURE if isinstance(error, AloeFailure) else BAD_INPUT
