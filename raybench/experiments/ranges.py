"""Checks that every kind of evaluation shares: numbers in their ranges, lists without repetition, names of files."""

from collections.abc import Sequence
from typing import Any

from raybench.errors import RequestError
from raybench.experiments.evaluation import Intervals

NumberRange = tuple[str, float, float, float]  # key, value, least, greatest


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
