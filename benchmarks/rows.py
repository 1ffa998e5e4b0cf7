"""A row of the table: the same work, our side and theirs."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """The ratio that must be reached, and the one hoped for."""

    floor: float | None = None
    aim: float | None = None


@dataclass(frozen=True)
class Row:
    """``ours`` and ``theirs``: the figure of every run. No ``peer``: nothing to compare with."""

    work: str
    unit: Literal["s", "MB/s", "MB"]
    ours: list[float]
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    target: Target = Target()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Of medians. Seconds and rates: how many times faster ours is. Memory: ours by theirs, so that less is better."""
        if not self.theirs:
            return None
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return theirs / ours if self.unit == "s" else ours / theirs

    @property
    def peer_wins(self) -> bool:
        """Whether the peer is the better one."""
        return self.ratio is not None and not self._reaches(1)

    @property
    def verdict(self) -> str:
        """Whose row it is, and what of the target is reached."""
        if self.ratio is None:
            return ""
        parts = ["PEER WINS"] if self.peer_wins else []
        if self.target.aim is not None and self._reaches(self.target.aim):
            parts.append("aim reached")
        elif self.target.floor is not None:
            parts.append("floor reached" if self._reaches(self.target.floor) else "BELOW THE FLOOR")
        return ", ".join(parts) or "ahead"

    def _reaches(self, target: float) -> bool:
        assert self.ratio is not None
        return self.ratio <= target if self.unit == "MB" else self.ratio >= target

    def to_dict(self) -> dict[str, Any]:
        """For the JSON file, with what follows from the runs beside them."""
        medians = {"ours_median": statistics.median(self.ours)}
        if self.theirs:
            medians |= {"theirs_median": statistics.median(self.theirs), "ratio": self.ratio}
        return asdict(self) | medians | {"verdict": self.verdict}

    @staticmethod
    def from_dict(stored: dict[str, Any]) -> Row:
        """From the JSON file."""
        own = {name: stored[name] for name in ("work", "unit", "ours", "peer", "theirs", "note")}
        return Row(**own, target=Target(**stored["target"]))
