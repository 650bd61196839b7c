"""Vectors of a file as rows that indexes are built over, and the cells of an evaluation of vectors.

By cosine, rows and queries are scaled to length one when they are read: their inner products are then the cosines.

Axes: Q queries, D dimensions.
"""

from dataclasses import dataclass

import numpy as np

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.experiments.cell import Asked, Cells
from raybench.experiments.spaces import Searched
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.formats import open_vectors
from raybench.formats.base import read_rows
from raybench.formats.mapped import mapped
from raybench.spec import content_key

DIRECTION = "nearest_vectors"


@dataclass(frozen=True, slots=True)
class FileRows:
    """Rows of a vector file; `checksum` is of their bytes and of how they are compared.

    Where it is mapped, rows of a local file that are compared as they are stored are a view of it.
    """

    uri: str
    metric: str
    checksum: str
    rows: int
    is_mapped: bool = False

    def __len__(self) -> int:
        return self.rows

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Rows start to stop; whole numbers as float32. DataError where the file has another number of rows by now."""
        file = open_vectors(self.uri)
        if file.rows != self.rows:
            raise DataError(f"{self.uri} had {self.rows} rows and has {file.rows}; run again")
        stop = self.rows if stop is None else stop
        view = mapped(file, start, stop) if self.is_mapped else None
        read_ND = read_rows(file, start, stop) if view is None else view
        vectors = Vectors(read_ND if read_ND.dtype.kind == "f" else read_ND.astype(np.float32), start)
        return vectors.unit() if self.metric == "cosine" else vectors


def cells(evaluation: VectorEvaluation, exact: Searched) -> Cells:
    """What the sections measure: the corpus as it is stored, asked with the queries of the evaluation."""
    manifest, metric = exact.manifest, evaluation.metric
    file = open_vectors(evaluation.queries)
    corpus = FileRows(evaluation.corpus, metric, _key(manifest["fingerprint"], metric), int(manifest["rows_out"]))
    asked = FileRows(evaluation.queries, metric, "", file.rows).load().matrix_ND
    # No two queries are known to be of one origin; the fingerprint is of corpus and queries together.
    one = Asked(
        DIRECTION, evaluation.corpus, corpus, asked, np.arange(file.rows), None, corpus.checksum, exact.found.top
    )
    return Cells([one], ("stored()",), evaluation.shards, evaluation.seed, evaluation.intervals)


def _key(fingerprint: object, metric: str) -> str:
    return content_key("rows", fingerprint, metric)
