"""An evaluation of images: from pictures and captions to ranking measures, for every encoder, transform and index."""

import dataclasses
from dataclasses import dataclass, field
from typing import Protocol

from raybench.generation.base import Decoding
from raybench.indexes import INDEXES
from raybench.metrics import parse_measure
from raybench.metrics.clip_score import PREFIX
from raybench.spec import Spec

DIRECTIONS = ("text_to_image", "image_to_text")
SHOWN = 5  # results per query in the gallery
_LISTED = 100  # results that are kept of each query, where a measure looks so deep


@dataclass(frozen=True, slots=True)
class Embed:
    """How images and texts become vectors."""

    chunk: int = 64  # rows per call of the encoder; decides last bits, so it is part of the vectors' key
    threads: int = 1  # of one encoder on a CPU; part of the key too
    workers: int = 0  # encoders at work; 0 takes what the cluster has
    max_bad: float = 0.05  # share of rows that may be unreadable before the run fails


@dataclass(frozen=True, slots=True)
class Grid:
    """What every encoder's vectors are searched through."""

    transforms: tuple[str, ...] = ("float16()",)
    indexes: tuple[str, ...] = ("exact()",)
    precisions: tuple[str, ...] = ()  # after each transform; float16() leaves it as it is
    efforts: tuple[int, ...] = ()  # of each index that needs one and names none
    candidates: tuple[int, ...] = ()  # scored again by the stored vectors, for each index; beside it without


@dataclass(frozen=True, slots=True)
class Intervals:
    """How the uncertainty of a mean is obtained."""

    resamples: int = 2_000
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Tune:
    """The smallest effort of indexes whose quality reaches a target."""

    measure: str = "overlap@3"
    target: float = 0.9
    most: int = 4_096  # no effort above this is tried
    indexes: tuple[str, ...] = ()  # without efforts; none: those of the grid that have one
    transforms: tuple[str, ...] = ()  # none: the grid's
    encoders: tuple[str, ...] = ()  # none: all
    directions: tuple[str, ...] = ()  # none: all


@dataclass(frozen=True, slots=True)
class Cost:
    """What indexes cost, and how much of the exact neighbours they find for it."""

    queries: int = 1_000  # at most; fewer where there are fewer
    warm_up: int = 50  # queries before them, which are not timed
    batch: int = 1_000
    k: int = 10
    rates: tuple[float, ...] = ()  # queries a second that come by themselves; waiting counts
    indexes: tuple[str, ...] = ()  # none: the grid's
    transforms: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What is set against the costs."""
        return f"overlap@{self.k}"


@dataclass(frozen=True, slots=True)
class Compare:
    """Indexes against the first of them: at one effort, and each at the effort that reaches a target."""

    indexes: tuple[str, ...]  # without efforts
    effort: int = 64
    target: float = 0.9
    most: int = 4_096
    cost: Cost = field(default_factory=Cost)  # of which indexes, transforms, encoders and directions are not read
    transforms: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hard:
    """Hard sets, each held against the first by query."""

    recipes: tuple[str, ...]  # files of `raybench curate`, or raybench:NAME for one that is shipped
    measure: str = "hit@1"
    encoders: tuple[str, ...] = ()  # none: all


@dataclass(frozen=True, slots=True)
class Alone:
    """Queries that are answered one at a time, from their words to their answers, with a clock at every step."""

    queries: int = 20  # 0: none
    warm_up: int = 3  # queries before them, the first of which is the cold start


@dataclass(frozen=True, slots=True)
class OwnPrompt:
    """Words of the user's own, in which {query} and {question} stand for those of a query."""

    shown: str  # after pictures
    unseen: str  # where there are none


@dataclass(frozen=True, slots=True)
class Generate:
    """Retrieval-augmented generation: queries to pictures to answers, timed and scored."""

    generator: str
    prompts: tuple[str, ...] = ("describe",)  # describe, answer, caption, or own
    own_prompt: OwnPrompt | None = None
    contexts: tuple[str, ...] = ("retrieved", "none", "gold")  # what is shown; "random" too
    queries: int = 200  # at most
    pictures: int = 3  # retrieved for each query
    shots: int = 0  # examples that go before what is asked
    encoder: str | None = None  # what queries and pictures are searched with; None: the first
    transform: str = "float16()"
    index: str = "exact()"  # one that needs an effort and names none is tuned first
    strategy: str = "knn"  # or "centroid": the average of all queries of a cluster
    questions: str | None = None  # a table of query_id, question, answer; None: what the images' source asks
    decoding: Decoding = field(default_factory=Decoding)
    score: str | None = None  # the encoder of CLIPScore; None: the first that does not search
    score_prefix: str = PREFIX  # before every answer and reference that CLIPScore reads
    alone: Alone = field(default_factory=Alone)
    workers: int = 0  # 0: one for the GPUs of each worker, or one a node
    threads: int = 0  # of a worker on CPUs; 0: what it has
    max_bad: float = 0.05  # share of queries that may be without an answer before the run fails
    samples: int = 8  # queries shown with pictures and answers in the report


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation file of images; every field is a key of the file."""

    name: str
    images: str
    encoders: tuple[str, ...]
    queries: str | None = None  # None: those that come with the images, or else their captions
    qrels: str | None = None
    directions: tuple[str, ...] = ("text_to_image",)
    measures: tuple[str, ...] = ("ndcg@10", "map@10", "recall@10", "precision@10", "mrr@10", "hit@1")
    published: str | None = None  # a table of what others published on the same data, to be compared with
    embed: Embed = field(default_factory=Embed)
    grid: Grid = field(default_factory=Grid)
    cost: Cost | None = None
    tune: Tune | None = None
    compare: Compare | None = None
    hard: Hard | None = None
    generate: Generate | None = None
    intervals: Intervals = field(default_factory=Intervals)
    gallery: int = 12  # queries shown with their images in the report
    shards: int = 1
    seed: int = 0


class Axes(Protocol):
    """A grid before its axes are multiplied out."""

    @property
    def transforms(self) -> tuple[str, ...]:
        """Transforms."""
        ...

    @property
    def indexes(self) -> tuple[str, ...]:
        """Indexes."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions after each transform."""
        ...

    @property
    def efforts(self) -> tuple[int, ...]:
        """Efforts of indexes that name none."""
        ...

    @property
    def candidates(self) -> tuple[int, ...]:
        """Candidates that are scored again."""
        ...


class HasIndexes(Protocol):
    """A grid."""

    @property
    def indexes(self) -> tuple[str, ...]:
        """Its indexes."""
        ...


class Sections(Protocol):
    """An evaluation with the sections that measure cells."""

    @property
    def grid(self) -> HasIndexes:
        """What the sections choose from."""
        ...

    @property
    def cost(self) -> Cost | None:
        """What cells cost."""
        ...

    @property
    def tune(self) -> Tune | None:
        """Which effort is enough."""
        ...

    @property
    def compare(self) -> Compare | None:
        """Indexes against the first of them."""
        ...


class Chosen(Protocol):
    """A section of an evaluation that may choose among what the grid has; an empty choice is all."""

    @property
    def transforms(self) -> tuple[str, ...]:
        """Transforms."""
        ...

    @property
    def encoders(self) -> tuple[str, ...]:
        """Encoders."""
        ...

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions."""
        ...


def search_depth(evaluation: Evaluation, index: str) -> int:
    """Results of each query that an index is asked for.

    An exact index counts the ranks of judged rows, so its lists serve for what is shown, stored or compared with the exact
    ones. Of another index the lists are all there is; one result more than is measured shows where the last tie ends.
    """
    measures = [parse_measure(text) for text in evaluation.measures]
    if Spec.parse(index).name == "exact":
        wanted = [measure.k or 0 for measure in measures if measure.needs == "gold" or (measure.k or 0) <= _LISTED]
        return max([SHOWN, *wanted])
    depth = max(SHOWN, *(measure.k or 0 for measure in measures))
    return min(depth + 1, max(depth, _most_results(index) or depth + 1))


def _most_results(index: str) -> int | None:
    """How many rows an index can give at most because of what it was asked to look at; None where that is no limit."""
    spec, recipe = Spec.parse(index), INDEXES.make(index)
    limits = [getattr(recipe, "candidates", 0), spec.at if recipe.dial is not None and recipe.dial.is_k_least else 0]
    return min((limit for limit in limits if limit), default=None)


def tuned_indexes(grid: HasIndexes, tune: Tune) -> tuple[str, ...]:
    """The indexes to tune, without efforts: those that are named, or those of the grid that have an effort."""
    bare = (str(dataclasses.replace(Spec.parse(text), at=None)) for text in grid.indexes)
    return tune.indexes or tuple(dict.fromkeys(text for text in bare if INDEXES.make(text).dial is not None))
