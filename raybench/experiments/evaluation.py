"""One evaluation file says everything; reading it checks everything that can be checked without loading.

The file is YAML that mirrors `Evaluation` field for field, and its values are specs. An unknown key or name is an
error that suggests the nearest known one; a value out of range is an error and never adjusted.
"""

import ast
import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raybench.encoders import ENCODERS
from raybench.errors import RequestError, SpecError, suggest
from raybench.indexes import INDEXES
from raybench.metrics import parse_measure
from raybench.sources import SOURCES
from raybench.sources.tables import TABLES
from raybench.spec import Spec
from raybench.transforms import TRANSFORMS

DIRECTIONS = ("text_to_image", "image_to_text")


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


@dataclass(frozen=True, slots=True)
class Intervals:
    """How the uncertainty of a mean is obtained."""

    resamples: int = 2_000
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation file; every field is a key of the file."""

    name: str
    images: str
    encoders: tuple[str, ...]
    queries: str | None = None  # None: those that come with the images, or else their captions
    qrels: str | None = None
    directions: tuple[str, ...] = ("text_to_image",)
    measures: tuple[str, ...] = ("ndcg@10", "map@10", "recall@10", "precision@10", "mrr@10", "hit@1")
    embed: Embed = field(default_factory=Embed)
    grid: Grid = field(default_factory=Grid)
    intervals: Intervals = field(default_factory=Intervals)
    gallery: int = 12  # queries shown with their images in the report
    shards: int = 1
    seed: int = 0


class _OnceLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml ships no types
    """A safe loader that refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping, or a YAMLError that names the key and its line."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load(path: str, settings: tuple[str, ...] = ()) -> Evaluation:
    """Read and check an evaluation file; `settings` are `key=value` texts that override it, such as `embed.chunk=8`."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"there is no evaluation file {path}; check the path") from None
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise RequestError(f"the evaluation file {path} cannot be read: {error}") from None
    return parse(text, path, settings)


def parse(text: str, where: str, settings: tuple[str, ...] = ()) -> Evaluation:
    """Check the text of an evaluation file; `where` names it in errors."""
    try:
        content = yaml.load(text, _OnceLoader)  # noqa: S506 (a safe loader, below)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise RequestError(f"{where}{line}: {problem}; mend the YAML") from None
    if not isinstance(content, dict):
        raise RequestError(f"{where} holds no keys; an evaluation file needs name, images and encoders")
    for setting in settings:
        _override(content, setting)
    evaluation: Evaluation = _build(Evaluation, content, where, "")
    _check(evaluation, where)
    return _canonical(evaluation)


def _canonical(evaluation: Evaluation) -> Evaluation:
    """Every spec as it prints, so that one thing has one name however it was spelt."""

    def printed(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Spec.parse(text)) for text in texts)

    grid = Grid(printed(evaluation.grid.transforms), printed(evaluation.grid.indexes))
    return dataclasses.replace(
        evaluation,
        images=str(Spec.parse(evaluation.images)),
        encoders=printed(evaluation.encoders),
        measures=printed(evaluation.measures),
        grid=grid,
    )


def dump(evaluation: Evaluation) -> str:
    """The evaluation as YAML, defaults included; it parses back to the same evaluation."""
    plain = _plain(dataclasses.asdict(evaluation))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _override(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {setting!r} is not key=value; write it like --set shards=4")
    *parents, last = key.strip().split(".")
    place = content
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise RequestError(f"--set {setting!r}: {parent} holds no keys of its own")
        place = below
    place[last] = _setting(text)


def _setting(text: str) -> Any:
    """The value of a setting: specs and lists of specs as they are written, anything else as YAML.

    YAML would cut `[openclip("x", pretrained="y")]` at its comma.
    """
    try:
        node: Any = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        node = None
    if isinstance(node, (ast.Call, ast.BinOp)):
        return text.strip()
    if isinstance(node, ast.List) and any(isinstance(item, (ast.Call, ast.BinOp)) for item in node.elts):
        return [item.value if isinstance(item, ast.Constant) else ast.unparse(item) for item in node.elts]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _build(kind: Any, content: dict[str, Any], where: str, prefix: str) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise RequestError(f"{where}: unknown key {prefix + str(key)!r}; {suggest(str(key), fields)}")
        values[key] = _value(hints[key], value, where, prefix + key)
    for name, item in fields.items():
        if name not in values and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise RequestError(f"{where}: the key {prefix + name!r} is missing; add it")
    return kind(**values)


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            known = ", ".join(item.name for item in dataclasses.fields(hint))
            raise RequestError(f"{where}: {key} must hold keys ({known}), not {value!r}")
        return _build(hint, value, where, key + ".")
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise RequestError(f"{where}: {key} is empty; list at least one")
        return tuple(_value(str, item, where, key) for item in items)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in options or (value is None and type(None) in options):
        return value
    wanted = " or ".join("nothing" if option is type(None) else option.__name__ for option in options)
    raise RequestError(f"{where}: {key}={value!r} must be a {wanted}")


def _check(evaluation: Evaluation, where: str) -> None:
    """Every name resolves, every number is in its range, and nothing contradicts itself."""
    try:
        _check_specs(evaluation)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    if (evaluation.queries is None) != (evaluation.qrels is None):
        raise RequestError(f"{where}: queries and qrels belong together; give both or neither")
    lists: tuple[tuple[str, tuple[str, ...], list[Any]], ...] = (
        ("encoders", evaluation.encoders, [ENCODERS.make(spec) for spec in evaluation.encoders]),
        ("measures", evaluation.measures, [parse_measure(spec) for spec in evaluation.measures]),
        ("directions", evaluation.directions, list(evaluation.directions)),
        ("grid.transforms", evaluation.grid.transforms, [TRANSFORMS.make(spec) for spec in evaluation.grid.transforms]),
        ("grid.indexes", evaluation.grid.indexes, [INDEXES.make(spec) for spec in evaluation.grid.indexes]),
    )
    for name, values, made in lists:
        twice = next((value for value, one in zip(values, made, strict=True) if made.count(one) > 1), None)
        if twice is not None:
            raise RequestError(f"{where}: {name} lists {twice} twice; remove one")
    for direction in evaluation.directions:
        if direction not in DIRECTIONS:
            raise RequestError(f"{where}: no direction is called {direction!r}; {suggest(direction, DIRECTIONS)}")
    if not evaluation.name or set(evaluation.name) & set("/\\\0"):
        raise RequestError(f"{where}: name={evaluation.name!r} must be a word that can name a file")
    _check_ranges(evaluation, where)


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


def _check_ranges(evaluation: Evaluation, where: str) -> None:
    for key, number, low, high in (
        ("shards", evaluation.shards, 1, 100_000),
        ("seed", evaluation.seed, 0, 2**63 - 1),
        ("gallery", evaluation.gallery, 0, 1_000),
        ("embed.chunk", evaluation.embed.chunk, 1, 65_536),
        ("embed.threads", evaluation.embed.threads, 1, 1_024),
        ("embed.workers", evaluation.embed.workers, 0, 100_000),
        ("embed.max_bad", evaluation.embed.max_bad, 0.0, 1.0),
        ("intervals.resamples", evaluation.intervals.resamples, 100, 1_000_000),
        ("intervals.level", evaluation.intervals.level, 0.5, 0.9999),
    ):
        if not low <= number <= high:
            raise RequestError(f"{where}: {key}={number} is out of range; use {low} to {high}")
