"""What the section `generate` must be, checked when an evaluation file is read."""

import dataclasses

from raybench.encoders import ENCODERS
from raybench.encoders.base import own_packages
from raybench.errors import RequestError, suggest
from raybench.experiments.evaluation import Evaluation, Generate, OwnPrompt
from raybench.experiments.ranges import check_once, check_ranges
from raybench.experiments.section_checks import check_compared_by_products, check_presence
from raybench.generation import GENERATORS
from raybench.generation.prompts import OWN, PROMPTS
from raybench.indexes import INDEXES
from raybench.sources.tables import TABLES
from raybench.spec import Spec

CONTEXTS = ("retrieved", "none", "gold", "random")
STRATEGIES = ("knn", "centroid")


def printed_generate(section: Generate | None) -> Generate | None:
    """The section with its specs as they print."""
    if section is None:
        return None
    return dataclasses.replace(
        section, generator=str(Spec.parse(section.generator)), transform=str(Spec.parse(section.transform)),
        index=str(Spec.parse(section.index)), encoder=section.encoder and str(Spec.parse(section.encoder)),
        score=section.score and str(Spec.parse(section.score)),
    )  # fmt: skip


def check_generate(evaluation: Evaluation, where: str) -> None:
    """RequestError for what the section may not hold."""
    section = evaluation.generate
    if section is None:
        return
    GENERATORS.make(section.generator).check()
    _check_lists(section, where)
    _check_own(section.own_prompt, section, where)
    _check_search(section, evaluation, where)
    _check_score(section, evaluation, where)
    _check_shots(section, where)
    if section.questions is not None:
        TABLES.make(section.questions)
    if section.decoding.temperature == 0 and section.decoding.top_p != 1:
        raise RequestError(
            f"{where}: generate.decoding.top_p={section.decoding.top_p:g} means nothing at temperature 0, which takes the likeliest "
            "token; give a temperature or leave it out"
        )
    _check_numbers(section, where)


def _check_own(own: OwnPrompt | None, section: Generate, where: str) -> None:
    if own is None:
        return
    if OWN not in section.prompts:
        raise RequestError(f"{where}: generate.own_prompt is not asked; add own to generate.prompts")
    if ("{question}" in own.shown) != ("{question}" in own.unseen):
        raise RequestError(
            f"{where}: only one wording of generate.own_prompt holds {{question}}; ask it in both or in neither"
        )
    if not all("{query}" in words or "{question}" in words for words in (own.shown, own.unseen)):
        raise RequestError(
            f"{where}: generate.own_prompt must hold {{query}} or {{question}} in both wordings; they stand for those of a query"
        )


def _check_search(section: Generate, evaluation: Evaluation, where: str) -> None:
    if "text_to_image" not in evaluation.directions:
        raise RequestError(f"{where}: generate searches pictures with words; add text_to_image to directions")
    known = [str(Spec.parse(text)) for text in evaluation.encoders]
    for name in ("encoder", "score"):
        text = getattr(section, name)
        if text is not None and str(Spec.parse(text)) not in known:
            raise RequestError(
                f"{where}: generate.{name} is {text}, which is not among encoders; {suggest(text, known)}"
            )
    if section.strategy not in STRATEGIES:
        raise RequestError(
            f"{where}: generate.strategy={section.strategy!r} is not known; {suggest(section.strategy, STRATEGIES)}"
        )
    check_compared_by_products(section.transform, where)
    recipe = INDEXES.make(section.index)
    if recipe.dial is None or not recipe.dial.is_needed or Spec.parse(section.index).at is not None:
        check_presence(section.index)


def _check_score(section: Generate, evaluation: Evaluation, where: str) -> None:
    if section.score is not None and own_packages(ENCODERS.make(section.score)):
        raise RequestError(
            f"{where}: generate.score={section.score} needs packages of its own, which the generator's process has not; choose "
            f"another of {', '.join(evaluation.encoders)}"
        )


def _check_shots(section: Generate, where: str) -> None:
    own = section.own_prompt
    asking = [
        name
        for name in section.prompts
        if (PROMPTS[name].asks_question if name in PROMPTS else own is not None and "{question}" in own.shown)
    ]
    if section.shots and asking:
        raise RequestError(
            f"{where}: generate.shots={section.shots} are captions, which answer no question of the prompt {asking[0]!r}; leave one of "
            "them out"
        )


def _check_lists(section: Generate, where: str) -> None:
    for name, values, choice in (
        ("prompts", section.prompts, (*PROMPTS, *((OWN,) if section.own_prompt else ()))),
        ("contexts", section.contexts, CONTEXTS),
    ):
        if not values:
            raise RequestError(f"{where}: generate.{name} is empty; list some of {', '.join(choice)}")
        check_once(f"generate.{name}", values, list(values), where)
        for value in values:
            if name == "prompts" and value == OWN and section.own_prompt is None:
                raise RequestError(f"{where}: generate.prompts lists own, and there is no generate.own_prompt; add it")
            if value not in choice:
                raise RequestError(f"{where}: generate.{name} lists {value!r}; {suggest(value, choice)}")


def _check_numbers(section: Generate, where: str) -> None:
    check_ranges(
        (
            ("generate.queries", section.queries, 1, 10_000_000),
            ("generate.pictures", section.pictures, 1, 100),
            ("generate.shots", section.shots, 0, 32),
            ("generate.alone.queries", section.alone.queries, 0, 100_000),
            ("generate.alone.warm_up", section.alone.warm_up, 1, 10_000),
            ("generate.decoding.max_tokens", section.decoding.max_tokens, 1, 100_000),
            ("generate.decoding.temperature", section.decoding.temperature, 0.0, 10.0),
            ("generate.decoding.top_p", section.decoding.top_p, 0.0001, 1.0),
            ("generate.workers", section.workers, 0, 100_000),
            ("generate.threads", section.threads, 0, 1_024),
            ("generate.max_bad", section.max_bad, 0.0, 1.0),
            ("generate.samples", section.samples, 0, 1_000),
        ),
        where,
    )
