"""Rate, drops and standstill of one camera, from its acquisition stamps and pictures."""

from __future__ import annotations

from collections import deque


class CameraStats:
    """Fed with the stamp (ns) and the encoded picture of every frame. Not thread-safe."""

    def __init__(self, rate_hz: float) -> None:
        self._period = 1.0 / rate_hz
        self._recent: deque[int] = deque(maxlen=max(4, round(2 * rate_hz)))
        self.frames = 0
        self.dropped = 0
        self.max_gap = 0.0  # s
        self._picture = b""
        self._same_since = 0  # ns, stamp of the first frame with this picture

    def add(self, stamp: int, picture: bytes = b"") -> None:
        """A gap of more than one and a half periods counts the frames missing in it; time going back starts over."""
        if not picture or picture != self._picture or stamp < self._same_since:
            self._picture, self._same_since = picture, stamp
        if self._recent and stamp <= self._recent[-1]:
            self._recent.clear()
        if self._recent:
            gap = (stamp - self._recent[-1]) * 1e-9
            self.max_gap = max(self.max_gap, gap)
            if gap > 1.5 * self._period:
                self.dropped += round(gap / self._period) - 1
        self._recent.append(stamp)
        self.frames += 1

    @property
    def frozen(self) -> float:
        """How long (s) the same picture has come, bit for bit; a sensor's noise makes every new one differ."""
        return (self._recent[-1] - self._same_since) * 1e-9 if self._recent else 0.0

    @property
    def rate(self) -> float:
        """Frames a second over the last two seconds or so; 0 before the second frame."""
        if len(self._recent) < 2:
            return 0.0
        return (len(self._recent) - 1) / ((self._recent[-1] - self._recent[0]) * 1e-9)

    def age(self, now: int) -> float | None:
        """Age of the newest frame at `now` (ns), s; None before the first."""
        return (now - self._recent[-1]) * 1e-9 if self._recent else None
