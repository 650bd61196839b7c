"""The spaces in which an evaluation of vectors searches: transforms of its vectors, and projections that are files."""

from dataclasses import dataclass
from typing import Any

from raybench import storage
from raybench.arrays import Neighbors, Vectors
from raybench.errors import RequestError
from raybench.experiments.reporting import Reporter
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.formats import open_vectors
from raybench.formats.base import VectorFile, read_rows, width
from raybench.formats.transformed import Transformed
from raybench.spec import Literal, Spec
from raybench.transforms import TRANSFORMS
from raybench.transforms.pca import PcaRecipe
from raybench.transforms.sketch import SketchRecipe
from raybench.transforms.store import fit_once


@dataclass(frozen=True, slots=True)
class Space:
    """Corpus and queries as a space has them, the metric that compares them, and what it took to make it."""

    name: str
    corpus: str
    queries: str
    metric: str
    fit_s: float = 0.0
    facts: tuple[tuple[str, Any], ...] = ()  # of the fit
    is_projection: bool = False  # files of somebody else's
    is_stored: bool = False  # the vectors as they are stored: the truth itself

    @property
    def family(self) -> str | None:
        """The projection of SISAP's 2023 challenge that this is, or is made like; None for anything else."""
        if self.is_projection:
            return self.name.removesuffix("v2")
        return None if self.is_stored else _family(TRANSFORMS.make(self.name))


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """A space, what the exact search in it found, and the manifest of that search."""

    space: Space
    found: Neighbors
    manifest: dict[str, Any]

    @property
    def search_s(self) -> float:
        """Wall seconds of the search; where it was stopped and gone on with, the seconds of all workers."""
        if self.is_resumed:
            return float(self.manifest["certificate"]["worker_seconds"])
        return float(self.manifest["search_s"])

    @property
    def is_resumed(self) -> bool:
        """Whether the search was stopped and gone on with, so that nobody knows its wall time."""
        return bool(self.manifest["parts_done_before"])


def _family(recipe: object) -> str | None:
    if isinstance(recipe, PcaRecipe) and recipe.dim in (32, 96):
        return f"pca{recipe.dim}"
    return "hamming" if isinstance(recipe, SketchRecipe) and recipe.bits == 1_024 else None


def stored(evaluation: VectorEvaluation) -> Space:
    """The vectors as they are."""
    return Space("exact", evaluation.corpus, evaluation.queries, evaluation.metric, is_stored=True)


def spaces(evaluation: VectorEvaluation, out: str, reporter: Reporter) -> list[Space]:
    """Every space of an evaluation, transforms first; what must be fitted is fitted on the corpus, once."""
    made = [_transformed(evaluation, text, out, reporter) for text in evaluation.grid.transforms]
    return made + projections(evaluation)


def projections(evaluation: VectorEvaluation) -> list[Space]:
    """The files of somebody else's projections."""
    made = []
    for one in evaluation.projections:
        metric = one.metric or ("hamming" if open_vectors(one.corpus).is_bits else "l2")
        made.append(Space(one.name, one.corpus, one.queries, metric, is_projection=True))
    return made


def _transformed(evaluation: VectorEvaluation, text: str, out: str, reporter: Reporter) -> Space:
    corpus, queries = open_vectors(evaluation.corpus), open_vectors(evaluation.queries)
    with reporter.stage(f"fitting {text}", None):
        transform, uri = fit_once(text, corpus, fingerprint(evaluation.corpus, corpus), out, evaluation.seed)
    told = (storage.read_manifest(uri) or {})["facts"] if uri else {}
    facts = tuple((name, told[name]) for name in ("explained", "rows") if name in told)
    if transform.key == "float16()" and corpus.dtype == queries.dtype == transform.out_dtype(corpus.dtype):
        return Space(text, evaluation.corpus, evaluation.queries, evaluation.metric, is_stored=True)
    metric = TRANSFORMS.make(text).metric(evaluation.metric)
    packed: tuple[tuple[str, Literal], ...] = (("packed", True),) if metric == "hamming" else ()
    rows = Spec("transformed", (evaluation.corpus, uri or text), packed, parenthesised=True)
    asked = Spec("transformed", (evaluation.queries, uri or text), (*packed, ("asked", True)), parenthesised=True)
    return Space(text, str(rows), str(asked), metric, float(told.get("fit_s", 0.0)), facts)


def check_fits(text: str, file: VectorFile, place: str) -> None:
    """RequestError where a transform cannot be applied to vectors such as these."""
    if file.is_bits or file.dtype.kind != "f":
        kind = "packed bits" if file.is_bits else str(file.dtype)
        raise RequestError(f"{text} cannot be applied to the {kind} of {place}; leave it out of grid.transforms")
    recipe = TRANSFORMS.make(text)
    if not recipe.needs_fit:
        recipe.fit(None).out_dim(file.dim)
    elif isinstance(recipe, PcaRecipe) and not 1 <= recipe.dim <= file.dim:
        raise RequestError(f"{text} does not fit the {file.dim} dimensions of {place}; use fewer")


def fingerprint(text: str, corpus: VectorFile) -> Any:
    """What changes when a corpus does: its address, and the names, sizes and times of its files; a JSON value."""
    return [text, [[file.name, file.size_bytes, file.modified_ns] for file in corpus.files]]


def vector_bytes(space: Space) -> int:
    """The bytes of one vector of a space."""
    file = open_vectors(space.corpus)
    if isinstance(file, Transformed) and not file.packed and file.rows:
        return int(file.transform.apply(Vectors(read_rows(file.file, 0, 1))).matrix_ND.nbytes)  # codes, where it packs
    return width(file) * file.dtype.itemsize
