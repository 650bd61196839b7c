"""Which experiment of one folder is held against which of another: every choice is spelt out, and nothing is guessed.

An experiment has five facets: encoder, direction, transform, index, and its key, `experiment`. A choice is a facet with its value, or
with a part of it that only one value has. A facet that was chosen, or has one value on each side, may differ between
the two of a pair; the others must be alike. Where two experiments could then stand in one place, that is an error that says
what there is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raybench import results, storage
from raybench.errors import RequestError, SpecError, suggest
from raybench.results import Record
from raybench.spec import Spec

FACETS = ("encoder", "direction", "transform", "index", "experiment")
_MATCHED = FACETS[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An experiment of a finished run."""

    out: str
    records: Mapping[str, Record]  # by measure, in the order of the run
    judged: str | None  # the key of its queries and judgments; None where the run did not write it down

    def facet(self, name: str) -> str:
        """The value of a facet."""
        return str(getattr(next(iter(self.records.values())), name))

    @property
    def corpus(self) -> int:
        """How many rows were searched."""
        return next(iter(self.records.values())).corpus

    @property
    def place(self) -> tuple[str, str]:
        """Two experiments of the same place are one."""
        return self.out, self.facet("experiment")


def stored_experiments(out: str, *, all_runs: bool = False) -> list[Stored]:
    """The experiments of the folder's last run, or all that lie in it. RequestError where there are none."""
    results_uri = storage.join(out, "results")
    found: dict[str, dict[str, Record]] = {}
    for record in results.read_all(results_uri):
        found.setdefault(record.experiment, {})[record.measure] = record
    if not found:
        raise RequestError(
            f"{results_uri} holds no results; give a folder that `raybench run` or `raybench demo` filled"
        )
    run_uri = storage.join(out, "run.json")
    facts = storage.read_json(run_uri) if storage.exists(run_uri) else {}
    listed = facts.get("experiments", []) if isinstance(facts, dict) else []
    last = {one["experiment"]: one.get("judged") for one in listed if isinstance(one, dict) and "experiment" in one}
    last = {key: judged for key, judged in last.items() if key in found}
    keys = list(last) if last and not all_runs else [*last, *(key for key in found if key not in last)]
    return [Stored(out, found[key], last.get(key)) for key in keys]


def choose(experiments: Sequence[Stored], choices: Iterable[str], side: str) -> list[Stored]:
    """Those that the choices, texts such as `encoder=scenes-clip`, leave; `side` is A or B, for the messages."""
    kept = list(experiments)
    for choice in choices:
        name, value = read_choice(choice, side)
        there = list(dict.fromkeys(one.facet(name) for one in kept))
        kept = [one for one in kept if one.facet(name) == _meant(value, there, f"{side} has no {name}")]
    return kept


def read_choice(choice: str, side: str) -> tuple[str, str]:
    """The facet and the value of a choice. RequestError where it is neither."""
    name, equals, value = choice.partition("=")
    if not equals or not value.strip():
        raise RequestError(f"--{side.lower()} {choice!r} is no choice; write it like --{side.lower()} encoder=ViT-B-32")
    if name.strip() not in FACETS:
        raise RequestError(f"--{side.lower()} {choice!r}: there is no facet {name.strip()!r}; {suggest(name, FACETS)}")
    return name.strip(), value.strip()


def _meant(value: str, there: Sequence[str], problem: str) -> str:
    """The one value that a text means: the same spec, or else the only one with it as a whole name, at its start, or anywhere."""
    ways = (
        [one for one in there if one == value or _same_spec(one, value)],
        [one for one in there if re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w.-])", one)],  # a whole name in it
        [one for one in there if one.startswith(value)],
        [one for one in there if value in one],
    )
    found = next((way for way in ways if way), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise RequestError(f"{problem} that only {value!r} means; it may be {_listed(found)}: write more of it")
    raise RequestError(f"{problem} {value!r}; there is {_listed(there)}")


def _same_spec(one: str, other: str) -> bool:
    try:
        return Spec.parse(one) == Spec.parse(other)
    except SpecError:
        return False


def pair(
    a: Sequence[Stored], b: Sequence[Stored], chosen: Iterable[str] = ()
) -> tuple[list[tuple[Stored, Stored]], tuple[int, int]]:
    """Pairs of one experiment of A and one of B, and how many of each have no partner. RequestError where it is unclear."""
    free = {name for name in _MATCHED if name in set(chosen) or max(len(_values(side, name)) for side in (a, b)) == 1}
    matched = [name for name in _MATCHED if name not in free]
    sides = []
    for side, experiments in (("A", a), ("B", b)):
        several = next((name for name in _MATCHED if name in free and len(_values(experiments, name)) > 1), None)
        if several is not None:
            listed = _listed(_values(experiments, several))
            raise RequestError(
                f"{side} has more than one {several}: {listed}; choose with --{side.lower()} {several}=..."
            )
        placed: dict[tuple[str, ...], Stored] = {}
        for one in experiments:
            key = tuple(one.facet(name) for name in matched)
            if key in placed:
                raise RequestError(
                    f"{side} has two experiments of {', '.join(one.facet(name) for name in _MATCHED)}; choose with "
                    f"--{side.lower()} experiment={placed[key].facet('experiment')} or {one.facet('experiment')}"
                )
            placed[key] = one
        sides.append(placed)
    pairs = [(one, sides[1][key]) for key, one in sides[0].items() if key in sides[1]]
    if not pairs:
        raise RequestError(
            f"A and B have no experiments to pair: A has {_told(a)}, B has {_told(b)}; choose with --a and --b"
        )
    if all(one.place == other.place for one, other in pairs):
        raise RequestError(f"A and B are the same experiments; choose with --a and --b among {_told(a)}")
    return pairs, (len(a) - len(pairs), len(b) - len(pairs))


def _values(experiments: Sequence[Stored], name: str) -> list[str]:
    return list(dict.fromkeys(one.facet(name) for one in experiments))


def _told(experiments: Sequence[Stored]) -> str:
    """What there is, facet by facet."""
    return "; ".join(f"{name} {_listed(_values(experiments, name))}" for name in _MATCHED)


def _listed(values: Sequence[str]) -> str:
    return " or ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
