"""The dead-men: which joint groups are held, and whether a held one counts; pure."""

from __future__ import annotations

from collections.abc import Iterable


class DeadMen:
    """One dead-man for all joint groups and, where the contract has them, one for each.

    Once the input was lost, a dead-man counts again only after it was seen open: a driver that repeats the last
    message of a pad that is gone cannot drive.
    """

    def __init__(self, groups: Iterable[str], *, needs_presence: bool) -> None:
        """`needs_presence`: none counts before a reader says that the joystick is there."""
        self.present: bool | None = None  # what the joystick's reader says
        self.held: frozenset[str] = frozenset()  # groups whose dead-man is held, whether it counts or not
        self._groups = tuple(groups)
        self._needs_presence = needs_presence
        self._pressed: frozenset[str] = frozenset()
        self._spent: frozenset[str] = frozenset()  # to be seen open first

    def see(self, pressed: frozenset[str]) -> frozenset[str]:
        """Take the keys of the buttons that are held now; return those that were not before."""
        news, self._pressed = pressed - self._pressed, pressed
        self.held = frozenset(g for g in self._groups if self.takes_all or f"deadman_buttons.{g}" in pressed)
        self._spent = self._spent | self.held if self.absence else self._spent & self.held
        return news

    def counts(self, group: str) -> bool:
        """Return whether the dead-man of `group` is held and counts."""
        return group in self.held and group not in self._spent

    def lose(self) -> None:
        """Forget what is held, since nobody knows."""
        self._pressed = self.held = frozenset()
        self._spent = frozenset(self._groups)

    @property
    def takes_all(self) -> bool:
        """Whether the dead-man of all groups is held."""
        return "deadman_button" in self._pressed

    @property
    def absence(self) -> str:
        """Why a held dead-man does not count, one sentence, empty if it does."""
        if self.present is False:
            return "The dead-man does not count: the joystick is not there, its driver repeats an old message."
        if self.present is None and self._needs_presence:
            return "The dead-man does not count: nobody says that the joystick is there (joy/presence); run joy_reader."
        return ""
