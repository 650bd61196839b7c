"""What generation tells: tables, entries of run.json, and warnings of all that a reader must know before believing a number."""

from collections.abc import Iterator, Sequence

from raybench.experiments import answer_means, answer_sheets
from raybench.experiments.answer_values import Scored
from raybench.experiments.evaluation import Tune
from raybench.experiments.generate_stage import Stage
from raybench.experiments.tuning import tuned_sheet


def tell(stage: Stage, scored: Sequence[Scored], scorer: str | None) -> None:
    """Tables, entries of run.json, and warnings."""
    progress, section, evaluation = stage.progress, stage.section, stage.evaluation
    told = answer_means.means(scored, evaluation.intervals, evaluation.seed)
    progress.sheets += answer_sheets.answers_sheets(told, stage.plan.cell, evaluation.intervals.level)
    if progress.rag_times:
        progress.sheets.append(answer_sheets.split_sheet(progress.rag_times, evaluation.intervals.level))
        progress.sheets += answer_sheets.times_sheets(progress.rag_times, section.alone, evaluation.intervals.level)
    progress.sheets.append(answer_sheets.batches_sheet(scored))
    if stage.plan.tuned is not None:
        progress.sheets.append(tuned_sheet(evaluation.tune or Tune(), [stage.plan.tuned]))
    of = {one.prompt: one for one in told}
    for one in scored:
        means = of[one.title[0]]
        measures = [means.known[name, one.title[1]].entry(name) for name in means.measures]
        progress.generations.append(one.entry(stage.plan.cell, section, scorer, measures))
    progress.warnings += [f"generating: {warning}" for warning in _warnings(stage, scored, scorer)]


def _warnings(stage: Stage, scored: Sequence[Scored], scorer: str | None) -> Iterator[str]:
    plan = stage.plan
    if plan.tuned is not None:
        yield (
            f"{plan.tuned['tuning_queries']} queries tuned the effort of {plan.cell.index} and are not answered; those that are come "
            "from the others"
        )
    for one in scored:
        if problems := one.answered.manifest["dropped"]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in problems.items())
            yield f"{one.answered.asking.title}: missing answers, which count as empty: {reasons}"
    if plan.drawn.without_answer:
        yield f"{plan.drawn.without_answer} queries have no relevant picture that can be read and were not drawn"
    own = zip(plan.held.references, plan.drawn.texts, strict=True)
    if alone := sum(references == (text,) for references, text in own):
        yield (
            f"{alone} of {len(plan.drawn)} queries are the only caption of their picture, and so their own reference: a copy of the "
            "query scores full marks there"
        )
    if stage.section.strategy == "centroid":
        yield (
            "averages of a cluster's queries hold the captions that answers are held against, so what retrieval adds is more than "
            "one query alone would find"
        )
    if scorer == plan.cell.asked.encoder:
        yield f"{scorer} both retrieves and scores, and so rewards its own taste; score with another encoder"
