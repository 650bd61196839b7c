"""The plan says what every image of a collection shows and for which it counts as an answer, before any is drawn.

An image is named by its kind, the number of its scene and its variant; with the seed these decide its bytes, so
any machine can make any shard alone.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from numpy.random import Generator

from raybench.sources.scenes.captions import describe
from raybench.sources.scenes.files import DEFECTS, ODD_FORMATS, OddFormat
from raybench.sources.scenes.scene import (
    Background,
    Purpose,
    Scene,
    Size,
    T,
    Texture,
    Thing,
    generator,
    pick,
    sample,
    vary,
)

FEWEST_IMAGES = 50  # below this, the kinds that come in a minimum number would crowd out the rest
LARGEST_SHARD = 10_000  # a position has four digits
TWIN_EVERY = 18  # of so many targets, the second shares a caption with the first


class Kind(StrEnum):
    """What an image is in the collection for."""

    TARGET = "target"
    HARD_NEGATIVE = "hard_negative"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    DISTRACTOR = "distractor"
    BROKEN = "broken"
    ODD_FORMAT = "odd_format"


class Stream(IntEnum):
    """What a random stream decides; the third word of an evaluation seed."""

    ORDER = 0
    SCENE = 1
    PIXELS = 2
    CAPTIONS = 3
    VARIANT = 4


SHARES = {
    Kind.TARGET: 0.18,
    Kind.HARD_NEGATIVE: 0.30,
    Kind.EXACT_DUPLICATE: 0.02,
    Kind.NEAR_DUPLICATE: 0.04,
    Kind.ODD_FORMAT: 0.024,
    Kind.BROKEN: 0.02,
}
FEWEST = {Kind.ODD_FORMAT: len(ODD_FORMATS), Kind.BROKEN: len(DEFECTS), Kind.EXACT_DUPLICATE: 1, Kind.NEAR_DUPLICATE: 1}
# Kinds of one family show the same scenes; a scene is known by its family and its number.
FAMILY = {Kind.ODD_FORMAT: 1, Kind.DISTRACTOR: 2, Kind.BROKEN: 3}
TARGET_FAMILY = 0
ANSWERS = (Kind.TARGET, Kind.ODD_FORMAT, Kind.EXACT_DUPLICATE, Kind.NEAR_DUPLICATE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of the collection: `number` names its scene within the family of its kind."""

    image_id: str
    kind: Kind
    number: int
    variant: int

    def stream(self, seed: int, stream: Stream, *path: int) -> Generator:
        """A random stream that all images of this scene share."""
        return generator(Purpose.EVALUATION, seed, stream, FAMILY.get(self.kind, TARGET_FAMILY), self.number, *path)


def plan(images: int, seed: int, samples_per_shard: int) -> tuple[Entry, ...]:
    """Every image of the collection in its order, the kinds mixed."""
    if images < FEWEST_IMAGES:
        raise ValueError(f"images is {images}: a scenes collection has at least {FEWEST_IMAGES}; ask for more")
    if not 1 <= samples_per_shard <= LARGEST_SHARD:
        raise ValueError(f"samples_per_shard is {samples_per_shard}: choose 1 to {LARGEST_SHARD}")
    counts = {kind: max(FEWEST.get(kind, 0), round(images * share)) for kind, share in SHARES.items()}
    counts[Kind.DISTRACTOR] = images - sum(counts.values())
    targets = counts[Kind.TARGET]
    wanted: list[tuple[Kind, int, int]] = []
    for kind, count in counts.items():
        # The kinds that depend on a target go round the targets, and round again with another variant.
        lap = count if kind in FAMILY else targets
        wanted.extend((kind, index % lap, index // lap) for index in range(count))
    order = generator(Purpose.EVALUATION, seed, Stream.ORDER).permutation(images)
    return tuple(
        Entry(f"{place // samples_per_shard:05d}{place % samples_per_shard:04d}", *wanted[int(index)])
        for place, index in enumerate(order)
    )


def scene_of(entry: Entry, seed: int) -> tuple[Scene, str]:
    """What the image shows, and for a hard negative the path of the attribute that differs from its target's."""
    scene = _family_scene(entry, seed)
    if entry.kind is Kind.HARD_NEGATIVE:
        return vary(scene, entry.stream(seed, Stream.VARIANT, entry.variant))
    return scene, ""


def captions_of(entry: Entry, seed: int) -> tuple[str, ...]:
    """The five captions of a target, none of most other kinds; a twin's first caption is its target's first."""
    colourless = entry.kind is Kind.ODD_FORMAT and odd_format(entry) is OddFormat.GRAYSCALE
    if entry.kind not in (Kind.TARGET, Kind.ODD_FORMAT) or colourless:
        return ()
    captions = describe(_family_scene(entry, seed), entry.stream(seed, Stream.CAPTIONS))
    if is_twin(entry):
        return (captions_of(replace(entry, number=entry.number - 1), seed)[0], *captions[1:])
    return captions


def odd_format(entry: Entry) -> OddFormat:
    """The file format of an odd image; all take turns."""
    return ODD_FORMATS[entry.number % len(ODD_FORMATS)]


def is_twin(entry: Entry) -> bool:
    """Whether the scene is that of the target before it, but for all sizes, textures and the background."""
    return entry.kind not in FAMILY and entry.number % TWIN_EVERY == 1


def answers(entries: tuple[Entry, ...]) -> dict[str, tuple[list[str], list[str]]]:
    """By the id of each captioned image: the ids that show its scene, and those that also answer its first caption."""
    showing: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for entry in entries:
        if entry.kind in ANSWERS:
            showing[FAMILY.get(entry.kind, TARGET_FAMILY), entry.number].append(entry.image_id)
    found: dict[str, tuple[list[str], list[str]]] = {}
    for entry in entries:
        if entry.kind is Kind.TARGET:
            beside = entry.number - 1 if is_twin(entry) else entry.number + 1
            paired = is_twin(entry) or is_twin(replace(entry, number=beside))
            others = showing.get((TARGET_FAMILY, beside), []) if paired else []
            found[entry.image_id] = (showing[TARGET_FAMILY, entry.number], others)
        elif entry.kind is Kind.ODD_FORMAT:
            found[entry.image_id] = ([entry.image_id], [])
    return found


def _family_scene(entry: Entry, seed: int) -> Scene:
    if not is_twin(entry):
        return sample(entry.stream(seed, Stream.SCENE))
    first = _family_scene(replace(entry, number=entry.number - 1), seed)
    rng = entry.stream(seed, Stream.SCENE)
    things: list[Thing] = []
    for thing in first.things:
        size, texture = _another(thing.size, tuple(Size), rng), _another(thing.texture, tuple(Texture), rng)
        things.append(replace(thing, size=size, texture=texture))
    return replace(first, things=tuple(things), background=_another(first.background, tuple(Background), rng))


def _another(value: T, values: tuple[T, ...], rng: Generator) -> T:
    return pick(rng, tuple(other for other in values if other != value))
