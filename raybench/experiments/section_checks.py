"""What the sections cost, tune and compare must be, checked when an evaluation file is read."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from raybench.errors import RequestError, suggest
from raybench.experiments.evaluation import Axes, Chosen, Compare, Cost, Sections, Tune, tuned_indexes
from raybench.experiments.ranges import check_once, check_ranges
from raybench.indexes import INDEXES
from raybench.indexes.base import IndexRecipe, check_effort
from raybench.metrics import parse_measure
from raybench.spec import Spec
from raybench.transforms import TRANSFORMS

Section = TypeVar("Section", Cost, Tune, Compare)


def printed(texts: Sequence[str]) -> tuple[str, ...]:
    """Specs as they print, so that one thing has one name."""
    return tuple(str(Spec.parse(text)) for text in texts)


def printed_section(section: Section | None) -> Section | None:
    """A section with its specs as they print."""
    if section is None:
        return None
    lists: dict[str, Any] = {name: printed(getattr(section, name)) for name in ("indexes", "transforms", "encoders")}
    made = dataclasses.replace(section, **lists)
    return dataclasses.replace(made, measure=str(Spec.parse(made.measure))) if isinstance(made, Tune) else made


def check_sections(sections: Sections, encoders: Sequence[str], directions: Sequence[str], where: str) -> None:
    """RequestError for what no section may hold."""
    for name, section in (("cost", sections.cost), ("tune", sections.tune), ("compare", sections.compare)):
        if section is not None:
            _check_choice(name, section, encoders, directions, where)
    if sections.cost is not None:
        _check_cost("cost", sections.cost, where)
        for text in sections.cost.indexes:
            check_presence(text)
    if sections.tune is not None:
        _check_tune(sections, sections.tune, where)
    if sections.compare is not None:
        _check_compare(sections.compare, where)


def check_axes(grid: Axes, where: str) -> None:
    """Every axis of the grid holds what it is an axis of, each once."""
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


def _recipe_and_effort(text: str) -> tuple[IndexRecipe, int | None]:
    return INDEXES.make(text), Spec.parse(text).at


def check_presence(text: str) -> None:
    """RequestError for an effort that is missing or not taken; one out of range is a cell without a result."""
    spec, dial = Spec.parse(text), INDEXES.make(text).dial
    if dial is None or spec.at is None:
        check_effort(str(dataclasses.replace(spec, at=None)), dial, spec.at)


def _check_choice(name: str, section: Chosen, encoders: Sequence[str], directions: Sequence[str], where: str) -> None:
    known = {str(Spec.parse(text)) for text in encoders}
    for text in section.encoders:
        if str(Spec.parse(text)) not in known:
            raise RequestError(f"{where}: {name}.encoders lists {text}, which is not among encoders; add it there")
    for direction in section.directions:
        if direction not in directions:
            raise RequestError(f"{where}: {name}.directions lists {direction!r}; {suggest(direction, directions)}")
    for text in section.transforms:
        check_compared_by_products(text, where)
    check_once(f"{name}.transforms", section.transforms, [TRANSFORMS.make(text) for text in section.transforms], where)


def check_compared_by_products(text: str, where: str) -> None:
    """RequestError for a transform whose vectors are compared by distances."""
    # Signs are in one order by inner product and by bits that differ; centred projections are not.
    if TRANSFORMS.make(text).metric("ip") not in ("ip", "hamming"):
        raise RequestError(
            f"{where}: {text} keeps distances and not inner products, by which indexes compare; use pca(..., centre=False) or "
            "truncate"
        )


def _check_tune(sections: Sections, tune: Tune, where: str) -> None:
    measure = parse_measure(tune.measure)
    if measure.k is None or measure.better != "higher":
        raise RequestError(f"{where}: tune.measure={tune.measure} must have a cut-off, as overlap@3 has")
    _check_target("tune", tune.target, tune.most, where)
    if not tuned_indexes(sections.grid, tune):
        raise RequestError(
            f"{where}: there is no index with an effort to tune; list some, as in tune.indexes=[hnsw(m=32)]"
        )
    _check_bare("tune", tune.indexes, where)


def _check_compare(compare: Compare, where: str) -> None:
    _check_target("compare", compare.target, compare.most, where)
    check_ranges((("compare.effort", compare.effort, 1, 2**31 - 1),), where)
    if len(compare.indexes) < 2:
        raise RequestError(f"{where}: compare.indexes needs two indexes or more; the first is the one to compare with")
    _check_bare("compare", compare.indexes, where)
    _check_cost("compare.cost", compare.cost, where)


def _check_target(name: str, target: float, most: int, where: str) -> None:
    if not 0 < target < 1:
        raise RequestError(f"{where}: {name}.target={target:g} is out of range; use a share between 0 and 1")
    check_ranges(((f"{name}.most", most, 1, 10_000_000),), where)


def _check_bare(name: str, indexes: Sequence[str], where: str) -> None:
    check_once(f"{name}.indexes", indexes, [INDEXES.make(text) for text in indexes], where)
    for text in indexes:
        if INDEXES.make(text).dial is None or Spec.parse(text).at is not None:
            raise RequestError(f"{where}: {name}.indexes lists {text}; list indexes that have an effort, without it")


def _check_cost(name: str, cost: Cost, where: str) -> None:
    check_ranges(
        (
            (f"{name}.queries", cost.queries, 1, 1_000_000),
            (f"{name}.warm_up", cost.warm_up, 0, 1_000_000),
            (f"{name}.batch", cost.batch, 1, 1_000_000),
            (f"{name}.k", cost.k, 1, 1_000_000),
            *((f"{name}.rates", rate, 0.01, 1_000_000) for rate in cost.rates),
        ),
        where,
    )
