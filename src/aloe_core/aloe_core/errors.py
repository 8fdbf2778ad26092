"""One exception for everything a person can put right."""


class AloeError(Exception):
    """Bad input or a condition the operator must act on; the message is one sentence."""


def bad_value(file: object, key: str, value: object, expected: str) -> AloeError:
    """Return the error that names file, key, value and what was expected."""
    return AloeError(f"{file}: {key} = {value!r}: expected {expected}.")
