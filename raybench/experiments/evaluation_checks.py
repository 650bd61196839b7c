"""What an evaluation must be, checked when its file is read: nothing is embedded, searched or adjusted before.

Every name resolves, every number is in its range, and nothing contradicts itself.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from raybench.encoders import ENCODERS
from raybench.errors import RequestError, suggest
from raybench.experiments.evaluation import (
    DIRECTIONS,
    Cost,
    Evaluation,
    Intervals,
    Tune,
    tuned_indexes,
)
from raybench.experiments.grid_axes import multiplied
from raybench.indexes import INDEXES
from raybench.indexes.base import IndexRecipe, check_effort
from raybench.metrics import parse_measure
from raybench.sources import SOURCES
from raybench.sources.tables import TABLES
from raybench.spec import Spec
from raybench.transforms import TRANSFORMS

NumberRange = tuple[str, float, float, float]  # key, value, least, greatest


def checked(evaluation: Evaluation, where: str) -> Evaluation:
    """The evaluation with every spec as it prints, so that one thing has one name; RequestError for what is wrong.

    The axes of the grid are multiplied out.
    """
    _check_axes(evaluation, where)
    evaluation = dataclasses.replace(evaluation, grid=multiplied(evaluation.grid))
    _check(evaluation, where)

    def printed(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Spec.parse(text)) for text in texts)

    tune = evaluation.tune
    if tune is not None:
        tune = dataclasses.replace(tune, measure=str(Spec.parse(tune.measure)), indexes=printed(tune.indexes))
    return dataclasses.replace(
        evaluation,
        images=str(Spec.parse(evaluation.images)),
        encoders=printed(evaluation.encoders),
        measures=printed(evaluation.measures),
        tune=tune,
    )


def _check_axes(evaluation: Evaluation, where: str) -> None:
    """Every axis of the grid holds what it is an axis of, each once."""
    grid = evaluation.grid
    for name, values, made in (
        ("grid.transforms", grid.transforms, [TRANSFORMS.make(text) for text in grid.transforms]),
        ("grid.precisions", grid.precisions, [TRANSFORMS.make(text) for text in grid.precisions]),
        ("grid.indexes", grid.indexes, [_recipe_and_effort(text) for text in grid.indexes]),
        ("grid.efforts", tuple(map(str, grid.efforts)), list(grid.efforts)),
        ("grid.candidates", tuple(map(str, grid.candidates)), list(grid.candidates)),
    ):
        check_once(name, values, made, where)
    numbers = [("grid.efforts", one) for one in grid.efforts] + [("grid.candidates", one) for one in grid.candidates]
    check_ranges([(name, one, 1, 2**31 - 1) for name, one in numbers], where)


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
        # Signs are in one order by inner product and by bits that differ; centred projections are not.
        if TRANSFORMS.make(text).metric("ip") not in ("ip", "hamming"):
            raise RequestError(
                f"{where}: {text} keeps distances and not inner products, by which images are searched; use truncate, or "
                "an evaluation of vectors"
            )
    for text in evaluation.grid.indexes:
        _check_index(evaluation, text, where)
    if evaluation.tune is not None:
        _check_tune(evaluation, evaluation.tune, where)
    if evaluation.cost is not None:
        _check_cost(evaluation.cost, where)
    check_name(evaluation.name, where)
    check_ranges(_ranges(evaluation), where)


def _recipe_and_effort(text: str) -> tuple[IndexRecipe, int | None]:
    return INDEXES.make(text), Spec.parse(text).at


def _check_specs(evaluation: Evaluation) -> None:
    SOURCES.make(evaluation.images)
    for spec in evaluation.encoders:
        ENCODERS.make(spec).check()
    for address in (evaluation.queries, evaluation.qrels):
        if address is not None:
            TABLES.make(address)
    for spec in evaluation.grid.transforms:
        TRANSFORMS.make(spec)
    for spec in evaluation.grid.indexes:
        INDEXES.make(spec)
    for spec in evaluation.measures:
        parse_measure(spec)


def _check_index(evaluation: Evaluation, text: str, where: str) -> None:
    """RequestError for an effort that is missing or not taken, and for measures that lists cannot give.

    An effort out of range, which an axis may bring about, is a cell without a result.
    """
    spec, dial = Spec.parse(text), INDEXES.make(text).dial
    if dial is None or spec.at is None:
        check_effort(str(dataclasses.replace(spec, at=None)), dial, spec.at)
    whole = next((measure for measure in evaluation.measures if parse_measure(measure).k is None), None)
    if spec.name != "exact" and whole is not None:
        raise RequestError(
            f"{where}: {whole} needs the rank of every relevant row, and {text} gives only the first; use a cut-off, as in "
            "mrr@10, or exact()"
        )


def _check_tune(evaluation: Evaluation, tune: Tune, where: str) -> None:
    measure = parse_measure(tune.measure)
    if measure.k is None or measure.better != "higher":
        raise RequestError(f"{where}: tune.measure={tune.measure} must have a cut-off, as overlap@3 has")
    if not 0 < tune.target < 1:
        raise RequestError(f"{where}: tune.target={tune.target:g} is out of range; use a share between 0 and 1")
    if not 1 <= tune.most <= 10_000_000:
        raise RequestError(f"{where}: tune.most={tune.most} is out of range; use 1 to 10000000")
    if not tuned_indexes(evaluation, tune):
        raise RequestError(
            f"{where}: there is no index with an effort to tune; list some, as in tune.indexes=[hnsw(m=32)]"
        )
    check_once("tune.indexes", tune.indexes, [INDEXES.make(text) for text in tune.indexes], where)
    for text in tune.indexes:
        if INDEXES.make(text).dial is None or Spec.parse(text).at is not None:
            raise RequestError(f"{where}: tune.indexes lists {text}; list indexes that have an effort, without it")


def _check_cost(cost: Cost, where: str) -> None:
    check_ranges(
        (
            ("cost.queries", cost.queries, 1, 1_000_000),
            ("cost.warm_up", cost.warm_up, 0, 1_000_000),
            ("cost.batch", cost.batch, 1, 1_000_000),
            ("cost.k", cost.k, 1, 1_000_000),
            *(("cost.rates", rate, 0.01, 1_000_000) for rate in cost.rates),
        ),
        where,
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


def interval_ranges(intervals: Intervals) -> tuple[NumberRange, ...]:
    """The ranges of the settings of intervals."""
    return (
        ("intervals.resamples", intervals.resamples, 100, 1_000_000),
        ("intervals.level", intervals.level, 0.5, 0.9999),
    )


def check_ranges(ranges: Sequence[NumberRange], where: str) -> None:
    """RequestError for the first number that is out of its range."""
    for key, number, low, high in ranges:
        if not low <= number <= high:
            raise RequestError(f"{where}: {key}={number} is out of range; use {low} to {high}")


def check_once(name: str, values: Sequence[str], made: Sequence[Any], where: str) -> None:
    """RequestError for a list that names one thing twice, however it is spelt."""
    twice = next((value for value, one in zip(values, made, strict=True) if made.count(one) > 1), None)
    if twice is not None:
        raise RequestError(f"{where}: {name} lists {twice} twice; remove one")


def check_name(name: str, where: str) -> None:
    """RequestError for a name that no file could have."""
    if not name or set(name) & set("/\\\0"):
        raise RequestError(f"{where}: name={name!r} must be a word that can name a file")
