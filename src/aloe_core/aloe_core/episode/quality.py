"""When is a stream good enough? One rule for the running take and for the finished bag."""

from __future__ import annotations

from dataclasses import dataclass

GAP_S = 0.1  # a silence longer than this is a gap, unless the topic is slower
PASSED = "passed"  # label `quality` of a take that nothing is wrong with


@dataclass(frozen=True)
class Limits:
    """What a take may lack; the defaults are those of `./aloe bag check`."""

    max_gaps: int = 5  # so many gaps in a stream fail it
    min_rate: float = 0.9  # of what the contract promises
    min_expected: int = 10  # shorter takes are not judged by their rate


@dataclass(frozen=True)
class StreamAccount:
    """What a stream with a promised rate came to."""

    name: str
    rate_hz: float
    received: int
    expected: int  # -1: unknown
    gaps: int
    max_gap: float  # s
    lost: int = 0  # messages that must not be missing and are


def gap_limit(rate_hz: float) -> float:
    """Return the longest silence, s, that is no gap in a stream of this rate."""
    return max(GAP_S, 1.5 / rate_hz)


def shortcomings(account: StreamAccount, limits: Limits) -> list[str]:
    """Return what fails this stream, one clause each; empty if it is good enough."""
    found = []
    if account.lost:
        found.append(f"{account.name}: {account.lost} messages lost")
    enough = limits.min_rate * account.expected
    if account.expected >= limits.min_expected and account.received < enough:
        found.append(
            f"{account.name}: {account.received} of {account.expected} messages, "
            f"below {limits.min_rate:.0%} of {account.rate_hz:g} Hz"
        )
    if account.gaps >= limits.max_gaps:
        found.append(f"{account.name}: {account.gaps} gaps, the longest {account.max_gap:.2f} s")
    return found
