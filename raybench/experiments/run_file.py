"""What a run has used and made so far; becomes run.json, from which the report is written."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from raybench import storage
from raybench.experiments.evaluation import Evaluation
from raybench.experiments.evaluation_file import dump
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.results import Record

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table beside the records: facts that are not means over queries, such as a certificate or seconds."""

    title: str
    note: str  # what the columns mean, where their names do not say it
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(slots=True)
class Run:
    """One run, as it goes on."""

    evaluation: Evaluation | VectorEvaluation
    out: str
    records: list[Record] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    tuned: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)  # cells without a result, and why
    faults: list[str] = field(default_factory=list)  # of whole stages, for which the command ends with 1
    sheets: list[Sheet] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    generations: list[dict[str, Any]] = field(default_factory=list)  # answers by prompt and context
    rag_times: list[dict[str, Any]] = field(default_factory=list)  # of queries that were answered alone
    sets: list[str] = field(default_factory=list)  # where hard sets were evaluated
    seconds: dict[str, float] = field(default_factory=dict)

    def place(self, *names: str) -> str:
        """A place below the output folder."""
        return storage.join(self.out, *names)

    def fail(self, work: str, system: str, reason: str) -> None:
        """Note a cell of the grid that has no result; the others go on."""
        self.failed.append({"work": work, "system": system, "reason": reason})

    def tell_failed(self) -> None:
        """A table of the cells without a result, and a warning that it is there."""
        if self.failed:
            told: dict[tuple[str, str], list[str]] = {}
            for one in self.failed:
                told.setdefault((one["work"], one["reason"]), []).append(one["system"])
            rows = tuple((work, reason, len(systems), systems[0]) for (work, reason), systems in told.items())
            note = (
                "What could not be built or asked; nothing was adjusted, and all else went on. First: one of the cells."
            )
            self.sheets.append(Sheet("Cells without a result", note, ("what", "reason", "cells", "first"), rows))
            self.warnings.append(f"{len(self.failed)} of the grid's cells have no result: a table says why")

    def write(self, facts: dict[str, Any], command: str) -> None:
        """Write run.json; `facts` are of the machines that worked."""
        evaluation = self.evaluation
        self.tell_failed()
        content = {
            "name": evaluation.name, "created": datetime.now(UTC).isoformat(timespec="seconds"), "command": command,
            "evaluation": dump(evaluation), "seed": evaluation.seed,
            "shards": evaluation.shards if isinstance(evaluation, Evaluation) else None,
            "measures": list(evaluation.measures), "environment": facts, "warnings": self.warnings,
            "seconds": self.seconds, "artifacts": self.artifacts, "experiments": self.experiments,
            "costs": self.costs, "tuned": self.tuned, "failed": self.failed, "generations": self.generations,
            "rag_times": self.rag_times, "sheets": [asdict(sheet) for sheet in self.sheets],
        }  # fmt: skip
        storage.write_json(self.place("run.json"), content)
