"""A recipe says what a hard evaluation set is made of; every field is a key of its file."""

import importlib.resources
from dataclasses import dataclass, field
from pathlib import Path

from raybench.curation import STEPS
from raybench.curation.pictures import Pictures
from raybench.curation.tables import check_split
from raybench.errors import RequestError, SpecError, suggest
from raybench.experiments import yaml_file
from raybench.experiments.evaluation import Embed
from raybench.experiments.ranges import check_name
from raybench.sources import SOURCES

SHIPPED = "raybench:"


@dataclass(frozen=True, slots=True)
class PoolRecipe:
    """Pictures from one place, and the steps that only they go through."""

    images: str
    name: str = ""  # none: the name of the source
    prefix: str = ""  # of their ids in the set
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expect:
    """What the finished set must count, as somebody published it; 0 is not asked for."""

    queries: int = 0
    relevant: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file."""

    name: str
    targets: PoolRecipe  # pictures with captions, or with queries and judgments
    queries: str | None = None  # with qrels, instead of the captions
    qrels: str | None = None
    distractors: tuple[PoolRecipe, ...] = ()  # pictures whose captions are not read
    encoders: tuple[str, ...] = ()  # for steps that name none
    steps: tuple[str, ...] = ()  # over all that the pools gave
    pictures: Pictures = field(default_factory=Pictures)
    split: dict[str, float] = field(default_factory=lambda: {"test": 1.0})
    expect: Expect | None = None
    embed: Embed = field(default_factory=Embed)
    shards: int = 1  # of each search for neighbours
    seed: int = 0

    @property
    def pools(self) -> tuple[PoolRecipe, ...]:
        """The targets, then the distractors."""
        return (self.targets, *self.distractors)


def load(path: str, settings: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe file, or a shipped one by `raybench:NAME`; `settings` are `key=value` texts that override it."""
    return parse(yaml_file.read_text(_place(path), "recipe"), path, settings)


def _place(path: str) -> str:
    if not path.startswith(SHIPPED):
        return path
    folder = Path(str(importlib.resources.files("raybench"))) / "assets" / "recipes"
    known = {file.stem: str(file) for file in sorted(folder.glob("*.yaml"))}
    name = path.removeprefix(SHIPPED)
    if name not in known:
        raise RequestError(f"no recipe called {name!r} is shipped with raybench; {suggest(name, known)}")
    return known[name]


def parse(text: str, where: str, settings: tuple[str, ...] = ()) -> Recipe:
    """Check the text of a recipe; `where` names it in errors."""
    content = yaml_file.read_keys(text, where, settings, "a recipe needs name and targets")
    recipe: Recipe = yaml_file.build(Recipe, content, where)
    check_name(recipe.name, where)
    try:
        _check(recipe)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
    return recipe


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included."""
    return yaml_file.write_text(recipe)


def _check(recipe: Recipe) -> None:
    if (recipe.queries is None) != (recipe.qrels is None):
        raise RequestError("queries and qrels go together; give both or none")
    for pool in recipe.pools:
        SOURCES.make(pool.images)
        if any(mark in pool.prefix for mark in "./\\ "):
            raise RequestError(f"prefix={pool.prefix!r} cannot begin the name of a file; use letters, digits, _ and -")
    for pool in recipe.distractors:
        alone = next((text for text in pool.steps if getattr(STEPS.make(text), "over_all", False)), None)
        if alone is not None:
            raise RequestError(
                f"{alone} is a step of one pool, and holds pictures against answers; put it under steps of the recipe"
            )
    for text in (*(text for pool in recipe.pools for text in pool.steps), *recipe.steps):
        step = STEPS.make(text)
        step.check(recipe.encoders)
        for _, model in step.models(recipe.encoders):
            model.check()
    check_split(recipe.split)
    _check_numbers(recipe)


def _check_numbers(recipe: Recipe) -> None:
    pictures = recipe.pictures
    if not 0 <= pictures.shortest <= 10_000 or not 1 <= pictures.quality <= 100:
        raise RequestError(
            f"pictures: shortest={pictures.shortest}, quality={pictures.quality} cannot be; shortest is from 0 (as they are) to "
            "10000 pixels, quality from 1 to 100"
        )
    wanted = recipe.expect or Expect()
    if min(wanted.queries, wanted.relevant, wanted.images) < 0 or not 0 <= recipe.embed.max_bad <= 1:
        raise RequestError(
            f"expect: {wanted.queries}, {wanted.relevant}, {wanted.images}; embed.max_bad={recipe.embed.max_bad:g}: counts are 0 or "
            "more, and a share 0 to 1"
        )
    if recipe.shards < 1 or not 0 <= recipe.seed < 2**31 - 1:
        raise RequestError(
            f"shards={recipe.shards}, seed={recipe.seed}: shards are 1 or more, the seed 0 to {2**31 - 2}"
        )
