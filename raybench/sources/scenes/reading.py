"""A free English description of a scene is read back into facts: things, how they stand, the background, how many there are.

Read exactly: `sentence(scene)` and the five captions of `describe`. Read as far as the rules below go: what people and large
models write. Anything else is left out, not guessed: a fact that is not read is unstated.

A thing is a shape word, or "thing" and the like, with the adjectives before it; "the" and an attribute in common mean one told
before, "a" a new one. Adjectives and patterns after it ("is small and striped", "with dots") are of the subject of the clause
after a verb, and of the last thing otherwise. Of two different values of one attribute the first counts. How things stand is
read from "left of", "above" and the like, also where the subject comes last ("above it is a star"), and from places in the
picture ("on the left ... on the right"). What is denied ("not striped", "no star") is not read.
"""

import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

from raybench.sources.scenes import vocabulary
from raybench.sources.scenes.clauses import Clauses
from raybench.sources.scenes.statements import Statement

LONGEST = 4_000  # characters
_MARKS = re.compile(r"[^\W\d_]+|\d+|[.,;!?\n]")
_ENDS = {";": ",", "!": ".", "?": ".", "\n": "."}


def read(text: str) -> Statement:
    """What `text` tells: any text is allowed, in time linear in its length; the first `LONGEST` characters are read."""
    plain = unicodedata.normalize("NFKC", text[:LONGEST]).lower()
    marks = [_ENDS.get(mark, mark) for mark in _MARKS.findall(plain)]
    reader = _Reader()
    for match in vocabulary.PIECE.finditer(" ".join(marks)):
        reader.KINDS[match.lastgroup or "word"](reader, match)
    reader.stop()
    return reader.draft.statement()


class _Reader(Clauses):
    """What each kind of piece does."""

    # What words do.

    def _word(self, match: re.Match[str]) -> None:
        word = match["word"]
        if word in vocabulary.ADJECTIVES:
            self._adjective(*vocabulary.ADJECTIVES[word])
        elif word in vocabulary.SHAPED:
            self._adjective("shape", vocabulary.SHAPED[word])
        elif word in vocabulary.MARKS:
            self.phrase.setdefault("texture", vocabulary.MARKS[word])
            self._pattern(match)
        elif word in vocabulary.NUMBERS:
            self._number(word)
        elif word in vocabulary.NEW or word in vocabulary.KNOWN:
            self._determiner(is_known=word in vocabulary.KNOWN)
        else:
            self._small_word(word)

    def _small_word(self, word: str) -> None:
        if word in vocabulary.VERBS:
            self._verb()
        elif word in vocabulary.BREAKS:
            self.break_off()
        elif word in vocabulary.RELATIVES:
            self.is_relative = True
        elif word in vocabulary.NEGATIONS:
            self.flush()
            self.is_denied = True
        elif word in {"it", "its"} and self.first is None and self.topic is not None:
            self.first = self.last = self.topic

    def _adjective(self, attribute: str, value: StrEnum) -> None:
        if self.is_denied:
            self.is_spent = True
            return
        if self.is_ground_open:
            if attribute == "background":
                self.draft.background, self.is_ground_open = self.draft.background or value, False
            return
        if not self.phrase:
            self.holder = self.subject()
        self.phrase.setdefault(attribute, value)

    def _number(self, word: str) -> None:
        if word == "one" and self.phrase:
            self._add(1)
        else:
            self._determiner(is_known=False)
            self.number = vocabulary.NUMBERS[word]

    def _determiner(self, *, is_known: bool) -> None:
        is_denied = self.is_denied
        self.flush()
        self.is_denied, self.is_determined, self.is_known = is_denied, True, is_known

    def _verb(self) -> None:
        if self.phrase:
            self.flush()
            self.is_relative = False
        if self.first is None and not (self.is_relative or self.inverted or self.place):
            self.first = self.before  # "and is striped": the subject of the clause before
        self.has_verb = True

    def _pattern(self, _: re.Match[str]) -> None:
        """The pattern told just before is of a thing told already: "with stripes", "has a striped pattern"."""
        thing = self.subject()
        if "texture" in self.phrase and thing is not None and not self.is_denied:
            self.draft.things[thing].setdefault("texture", self.phrase["texture"])
        self.drop()

    # Things and the background.

    def _shaped(self, match: re.Match[str]) -> None:
        self._adjective("shape", vocabulary.SHAPES[match["shaped"]])

    def _shape(self, match: re.Match[str]) -> None:
        self.phrase["shape"] = vocabulary.SHAPES[match["shape"]]
        is_plural = match["shape"].endswith("s") and match["shape"] != "cross" and match["shape"] != "rhombus"
        self._add(self.number or 1 if is_plural else 1)

    def _one(self, _: re.Match[str]) -> None:
        self._add(1)

    def _many(self, _: re.Match[str]) -> None:
        if self.number and not self.is_denied:
            self.draft.count = self.draft.count or self.number
        self.drop()

    def _add(self, times: int) -> None:
        told, is_known, is_denied = self.phrase, self.is_known, self.is_denied
        self.drop()
        if is_denied:
            self.first = self.last = None  # what follows is of a thing that is not there
            return
        for thing in self.draft.add(told, times, is_known=is_known):
            self._found(thing)

    def _found(self, thing: int) -> None:
        """What waited for a thing has it."""
        if self.inverted:
            side, other, is_open = self.inverted
            is_subject = other is None or is_open or self.has_verb
            self.draft.relate(thing if is_subject else self.prior, side, other)
            self.inverted = None
        elif self.waiting:
            side, subject, is_inverted = self.waiting
            self.waiting = None
            if is_inverted:
                self.inverted, self.has_verb = (side, thing, self.is_first), False
                self.prior = self.last
            else:
                self.draft.relate(subject, side, thing)
        self.draft.places[thing] |= self.place
        self.place = set()
        self.first = thing if self.first is None else self.first
        self.opening = thing if self.opening is None else self.opening
        self.last = thing
        self.has_verb = self.is_relative = self.is_ground_open = self.is_first = False

    def _ground(self, _: re.Match[str]) -> None:
        if "background" in self.phrase and not self.is_denied:
            self.draft.background = self.draft.background or self.phrase["background"]
        elif self.draft.background is None:
            self.is_ground_open = True  # "the background is white"
        self.waiting = None
        self.drop()

    def _frame(self, _: re.Match[str]) -> None:
        self.drop()

    def _relation(self, match: re.Match[str]) -> None:
        self.stands(vocabulary.SIDES[match["level"] or match["upright"]], match["object"])

    def _beside(self, match: re.Match[str]) -> None:
        self.stands(vocabulary.SIDES[match["beside"]], "it" if match["whose"] == "its" else "them")

    def _place(self, match: re.Match[str]) -> None:
        self.put({vocabulary.SIDES[word] for word in match["place"].split()})

    def _comma(self, _: re.Match[str]) -> None:
        self.break_off()

    def _end(self, _: re.Match[str]) -> None:
        self.stop()

    KINDS: ClassVar[dict[str, Callable[["_Reader", re.Match[str]], None]]] = {
        "beside": _beside,
        "place": _place,
        "level": _relation,
        "upright": _relation,
        "object": _relation,
        "shaped": _shaped,
        "shape": _shape,
        "many": _many,
        "one": _one,
        "pattern": _pattern,
        "ground": _ground,
        "frame": _frame,
        "word": _word,
        "comma": _comma,
        "stop": _end,
    }
