"""What an evaluation must be, checked when its file is read: nothing is embedded, searched or adjusted before.

Every name resolves, every number is in its range, and nothing contradicts itself.
"""

import dataclasses
from typing import Any

from raybench.encoders import ENCODERS
from raybench.errors import RequestError, suggest
from raybench.experiments import recipe
from raybench.experiments.evaluation import DIRECTIONS, Evaluation
from raybench.experiments.generate_checks import check_generate, printed_generate
from raybench.experiments.grid_axes import multiplied
from raybench.experiments.ranges import NumberRange, check_name, check_once, check_ranges, interval_ranges
from raybench.experiments.section_checks import (
    check_axes,
    check_compared_by_products,
    check_presence,
    check_sections,
    printed,
    printed_section,
)
from raybench.indexes import INDEXES
from raybench.metrics import parse_measure
from raybench.sources import SOURCES
from raybench.sources.tables import TABLES
from raybench.spec import Spec
from raybench.transforms import TRANSFORMS


def checked(evaluation: Evaluation, where: str) -> Evaluation:
    """The evaluation with every spec as it prints, so that one thing has one name; RequestError for what is wrong.

    The axes of the grid are multiplied out.
    """
    check_axes(evaluation.grid, where)
    evaluation = dataclasses.replace(evaluation, grid=multiplied(evaluation.grid))
    _check(evaluation, where)

    return dataclasses.replace(
        evaluation,
        images=str(Spec.parse(evaluation.images)),
        encoders=printed(evaluation.encoders),
        measures=printed(evaluation.measures),
        cost=printed_section(evaluation.cost),
        tune=printed_section(evaluation.tune),
        compare=printed_section(evaluation.compare),
        generate=printed_generate(evaluation.generate),
    )


def _check(evaluation: Evaluation, where: str) -> None:
    """Every name resolves, every number is in its range, and nothing contradicts itself."""
    _check_specs(evaluation)
    if (evaluation.queries is None) != (evaluation.qrels is None):
        raise RequestError(f"{where}: queries and qrels belong together; give both or neither")
    lists: tuple[tuple[str, tuple[str, ...], list[Any]], ...] = (
        ("encoders", evaluation.encoders, [ENCODERS.make(spec) for spec in evaluation.encoders]),
        ("measures", evaluation.measures, [parse_measure(spec) for spec in evaluation.measures]),
        ("directions", evaluation.directions, list(evaluation.directions)),
    )
    for name, values, made in lists:
        check_once(name, values, made, where)
    for direction in evaluation.directions:
        if direction not in DIRECTIONS:
            raise RequestError(f"{where}: no direction is called {direction!r}; {suggest(direction, DIRECTIONS)}")
    for text in evaluation.grid.transforms:
        check_compared_by_products(text, where)
    for text in evaluation.grid.indexes:
        _check_index(evaluation, text, where)
    check_sections(evaluation, evaluation.encoders, evaluation.directions, where)
    _check_hard(evaluation, where)
    check_generate(evaluation, where)
    check_name(evaluation.name, where)
    check_ranges(_ranges(evaluation), where)


def _check_specs(evaluation: Evaluation) -> None:
    SOURCES.make(evaluation.images)
    for spec in evaluation.encoders:
        ENCODERS.make(spec).check()
    for address in (evaluation.queries, evaluation.qrels, evaluation.published):
        if address is not None:
            TABLES.make(address)
    for spec in evaluation.grid.transforms:
        TRANSFORMS.make(spec)
    for spec in evaluation.grid.indexes:
        INDEXES.make(spec)
    for spec in evaluation.measures:
        parse_measure(spec)


def _check_hard(evaluation: Evaluation, where: str) -> None:
    if evaluation.hard is None:
        return
    parse_measure(evaluation.hard.measure)
    unknown = next((one for one in evaluation.hard.encoders if one not in evaluation.encoders), None)
    if unknown is not None:
        raise RequestError(
            f"{where}: hard.encoders has {unknown}, which is not among the encoders; {suggest(unknown, evaluation.encoders)}"
        )
    names = [recipe.load(path).name for path in evaluation.hard.recipes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"{where}: two recipes of hard.recipes have the name {twice!r}; rename one")


def _check_index(evaluation: Evaluation, text: str, where: str) -> None:
    """RequestError for an effort that is missing or not taken, and for measures that lists cannot give."""
    check_presence(text)
    whole = next((measure for measure in evaluation.measures if parse_measure(measure).k is None), None)
    if Spec.parse(text).name != "exact" and whole is not None:
        raise RequestError(
            f"{where}: {whole} needs the rank of every relevant row, and {text} gives only the first; use a cut-off, as in "
            "mrr@10, or exact()"
        )


def _ranges(evaluation: Evaluation) -> tuple[NumberRange, ...]:
    return (
        ("shards", evaluation.shards, 1, 100_000),
        ("seed", evaluation.seed, 0, 2**63 - 1),
        ("gallery", evaluation.gallery, 0, 1_000),
        ("embed.chunk", evaluation.embed.chunk, 1, 65_536),
        ("embed.threads", evaluation.embed.threads, 1, 1_024),
        ("embed.workers", evaluation.embed.workers, 0, 100_000),
        ("embed.max_bad", evaluation.embed.max_bad, 0.0, 1.0),
        *interval_ranges(evaluation.intervals),
    )
