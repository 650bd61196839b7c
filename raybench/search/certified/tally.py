"""What a search did, in numbers that add up over parts; the certificate is made of them."""

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Tally:
    """What a search did, for its certificate; adds up over parts."""

    rows: int = 0
    scanned_rows: int = 0  # without copies
    pairs: int = 0
    kept: int = 0  # pairs that passed a threshold when their block was scanned
    settled: int = 0  # candidates that bounds could not thin out
    rescored: int = 0  # candidates scored in float64 at the end
    audited: int = 0
    inexact_rows: int = 0  # rows of parts where float64 sums may round
    by_precision: dict[str, int] = field(default_factory=dict)  # rows by the precision of their scan

    def add(self, other: "Tally") -> None:
        """Take the numbers of another part in."""
        for one in fields(self):
            if one.name != "by_precision":
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        for name, rows in other.by_precision.items():
            self.by_precision[name] = self.by_precision.get(name, 0) + rows
