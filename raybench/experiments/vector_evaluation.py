"""An evaluation of vectors: the truth of a corpus and queries, and how much of it an exact search in other spaces finds.

Other spaces are transforms of the same vectors (`grid.transforms`), and files that hold the same rows projected by
somebody else (`projections`). Searched exactly, each shows what an index over it can be hoped to reach.
"""

import dataclasses
import re
from dataclasses import asdict, dataclass, field

from raybench.environment import parse_bytes
from raybench.errors import RequestError, SpecError
from raybench.experiments.evaluation import Compare, Cost, Grid, Intervals, Tune
from raybench.experiments.grid_axes import CONTROL, multiplied
from raybench.experiments.ranges import check_name, check_once, check_ranges, interval_ranges
from raybench.experiments.section_checks import check_axes, check_presence, check_sections, printed, printed_section
from raybench.formats import recipe_of
from raybench.metrics import parse_measure
from raybench.sisap import task_of
from raybench.sisap.years import Task
from raybench.spec import Spec


@dataclass(frozen=True, slots=True)
class GoldSettings:
    """How the truth is found."""

    k: int = 100  # neighbours of each query; at least what the measures and the challenge look at
    memory: str = "4GiB"  # of each process that searches
    precision: str = "auto"  # of the scan; changes the time and nothing else


@dataclass(frozen=True, slots=True)
class Projection:
    """The same rows and queries in files of another space, such as the challenge's own pca32v2."""

    name: str  # its row in the tables; SISAP's family where it is one
    corpus: str
    queries: str
    metric: str | None = None  # None: hamming for packed bits, l2 for anything else


@dataclass(frozen=True, slots=True)
class VectorGrid:
    """The spaces that are made here."""

    transforms: tuple[str, ...] = ()  # searched exactly, each a space
    indexes: tuple[str, ...] = ()  # over the vectors as they are stored, where no section chooses otherwise
    precisions: tuple[str, ...] = ()  # the axes of a grid of images, multiplied out in the same way
    efforts: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Challenge:
    """A SISAP challenge whose result files are written; `raybench.sisap` has the rules of each year."""

    year: int
    task: str | None = None  # needed from 2025 on
    data: str | None = None  # 2023 and 2024: the family, such as clip768v2
    size: str | int | None = None  # 300K in 2023 and 2024; the number of rows in 2025
    dataset: str | None = None  # 2025 and 2026: laion2b, pubmed23, gooaq, ...

    @property
    def rules(self) -> Task:
        """The task. RequestError where the year has none of that name."""
        return task_of(self.year, self.task)


@dataclass(frozen=True, slots=True)
class VectorEvaluation:
    """An evaluation file of vectors; every field is a key of the file."""

    name: str
    corpus: str
    queries: str
    truth: str | None = None  # a published gold standard, to be compared with the proven one
    metric: str = "ip"
    gold: GoldSettings = field(default_factory=GoldSettings)
    grid: VectorGrid = field(default_factory=VectorGrid)
    projections: tuple[Projection, ...] = ()
    measures: tuple[str, ...] = ("overlap@10", "overlap@30", "overlap@100")
    challenge: Challenge | None = None
    cost: Cost | None = None
    tune: Tune | None = None
    compare: Compare | None = None
    intervals: Intervals = field(default_factory=Intervals)
    shards: int = 1  # partitions of an index
    workers: int = 0  # processes that search; 0 takes one per node
    seed: int = 0

    @property
    def depth(self) -> int:
        """Neighbours of each query that are looked at in every space."""
        deepest = max(parse_measure(text).k or 0 for text in self.measures)
        if self.challenge is None:
            return deepest
        rules = self.challenge.rules
        return max(deepest, rules.k + rules.is_self_join)


def file_name(space: str) -> str:
    """The file of a space: its name with anything but letters, digits and a few signs as one underscore."""
    return f"{re.sub(r'[^A-Za-z0-9=.-]+', '_', space).strip('_')}.h5"


def checked(evaluation: VectorEvaluation, where: str) -> VectorEvaluation:
    """The evaluation with every spec as it prints, so that one thing has one name; RequestError for what is wrong."""
    from raybench.search.certified import METRICS  # torch comes along, which evaluations of images need not wait for
    from raybench.search.certified.matrix import SCANS

    check_axes(evaluation.grid, where)
    axes = multiplied(Grid(**asdict(evaluation.grid) | {"transforms": evaluation.grid.transforms or (CONTROL,)}))
    transforms = axes.transforms if evaluation.grid.transforms or evaluation.grid.precisions else ()
    evaluation = dataclasses.replace(evaluation, grid=VectorGrid(transforms, axes.indexes))
    _check_places(evaluation)
    _check_lists(evaluation, where)
    check_name(evaluation.name, where)
    for key, value, known in (
        ("metric", evaluation.metric, METRICS),
        ("gold.precision", evaluation.gold.precision, ("auto", *SCANS)),
        *((f"projections of {one.name}: metric", one.metric, (None, *METRICS)) for one in evaluation.projections),
    ):
        if value not in known:
            raise RequestError(f"{where}: {key}={value!r} is not known; use one of {', '.join(map(str, known))}")
    parse_bytes(evaluation.gold.memory, f"{where}: gold.memory")
    check_ranges(
        (
            ("gold.k", evaluation.gold.k, 1, 1_000_000),
            ("workers", evaluation.workers, 0, 100_000),
            ("shards", evaluation.shards, 1, 100_000),
            ("seed", evaluation.seed, 0, 2**63 - 1),
            *interval_ranges(evaluation.intervals),
        ),
        where,
    )
    if evaluation.gold.k < evaluation.depth:
        raise RequestError(
            f"{where}: gold.k={evaluation.gold.k}, but the measures and the challenge look at {evaluation.depth} "
            f"neighbours; set gold.k to {evaluation.depth} or more"
        )

    grid = evaluation.grid
    has_sections = evaluation.cost or evaluation.tune or evaluation.compare
    made = dataclasses.replace(
        evaluation, measures=printed(evaluation.measures), tune=printed_section(evaluation.tune),
        cost=printed_section(evaluation.cost if has_sections or not grid.indexes else Cost()),
        compare=printed_section(evaluation.compare),
    )  # fmt: skip
    _check_sections(made, where)
    return made


def _check_sections(evaluation: VectorEvaluation, where: str) -> None:
    """Sections of indexes: what they need of the metric, of the truth, and of the file."""
    for text in evaluation.grid.indexes:
        check_presence(text)
    if not (evaluation.cost or evaluation.tune or evaluation.compare):
        return
    check_sections(evaluation, (), (), where)
    if evaluation.metric not in ("ip", "cosine"):
        raise RequestError(
            f"{where}: indexes compare by inner product; use metric ip or cosine, not {evaluation.metric}"
        )
    if evaluation.cost and not (evaluation.cost.indexes or evaluation.grid.indexes):
        raise RequestError(f"{where}: there is no index to measure; list some, as in grid.indexes=[hnsw(m=32)@64]")
    looked_at = [
        ("cost.k", evaluation.cost.k if evaluation.cost else 0),
        ("tune.measure", (parse_measure(evaluation.tune.measure).k or 0) if evaluation.tune else 0),
        ("compare.cost.k", evaluation.compare.cost.k if evaluation.compare else 0),
    ]
    for key, k in looked_at:
        if k > evaluation.gold.k:
            raise RequestError(
                f"{where}: {key} looks at {k} neighbours and gold.k is {evaluation.gold.k}; raise gold.k"
            )
    if evaluation.tune and parse_measure(evaluation.tune.measure).needs != "gold":
        raise RequestError(f"{where}: tune.measure={evaluation.tune.measure} needs judgments; use overlap@k")


def _check_places(evaluation: VectorEvaluation) -> None:
    """Specs of vectors must name a format; whether the files are there is found when they are opened."""
    places = [evaluation.corpus, evaluation.queries, *([evaluation.truth] if evaluation.truth else [])]
    for one in evaluation.projections:
        places += [one.corpus, one.queries]
    for place in places:
        if place.rstrip().endswith(")"):
            recipe_of(place)


def _check_lists(evaluation: VectorEvaluation, where: str) -> None:
    measures = [parse_measure(spec) for spec in evaluation.measures]
    check_once("measures", evaluation.measures, measures, where)
    names = [one.name for one in evaluation.projections]
    check_once("projections", names, names, where)
    for one in evaluation.projections:
        if not one.name.strip():
            raise RequestError(f"{where}: a projection has an empty name; give one, such as pca32v2")
    files = [
        "exact.h5",
        *(file_name(name) for name in (*(str(Spec.parse(one)) for one in evaluation.grid.transforms), *names)),
    ]
    twice = next((file for file in files if files.count(file) > 1), None)
    both = next((name for name in names if name in map(str, evaluation.grid.transforms) or name == "exact"), None)
    if both is not None:
        raise RequestError(
            f"{where}: a projection cannot be called {both!r}, which is another row; choose another name"
        )
    if twice is not None:
        raise RequestError(f"{where}: two spaces would write sisap/{twice}; give a projection another name")
    judged = next((measure for measure in measures if measure.needs != "gold"), None)
    if judged is not None:
        raise SpecError(
            f"{judged} needs judgments of relevance, and vectors come without; use overlap@k, or an evaluation of images"
        )
    if evaluation.challenge is not None:
        evaluation.challenge.rules  # noqa: B018 (an unknown year or task is an error now, not after the search)
