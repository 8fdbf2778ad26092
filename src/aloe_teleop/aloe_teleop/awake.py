"""Time in which this process could run: what lock-step counts before it gives up waiting."""


class AwakeClock:
    """Advances by looks, each by at most `limit` ns: a machine or a process that stood still was not waiting.

    `look` takes a monotonic clock, ns; call it at least once every `limit`.
    """

    def __init__(self, limit: int) -> None:
        self.now = 0  # ns
        self._limit = limit
        self._looked: int | None = None

    def look(self, clock: int) -> int:
        """Return the time so far, ns."""
        if self._looked is not None:
            self.now += min(clock - self._looked, self._limit)
        self._looked = clock
        return self.now
