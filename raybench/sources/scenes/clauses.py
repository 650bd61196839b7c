"""What a reader remembers of the way so far: the phrase, the clause and the sentence that it is in, and who they are about."""

from enum import StrEnum

from raybench.sources.scenes.scene import Side
from raybench.sources.scenes.statements import ATTRIBUTES, Draft


class Clauses:
    """The facts found so far, and what the next piece of text may belong to; used for one text."""

    draft: Draft
    last: int | None  # the thing told last
    topic: int | None  # the first thing of the sentence before, which "it" means
    opening: int | None  # the first thing of the sentence
    before: int | None  # the first thing of the clause before
    first: int | None  # the first thing of the clause
    prior: int | None  # the thing before that of an inverted relation
    holder: int | None  # whom the adjectives of the phrase are of if no thing follows
    phrase: dict[str, StrEnum]  # adjectives by attribute, of a thing still to come
    number: int | None  # of the things of the phrase
    waiting: tuple[Side, int | None, bool] | None  # side, subject, whether that comes later; the object comes next
    inverted: tuple[Side, int | None, bool] | None  # side, object, whether what comes next is surely the subject
    place: set[Side]  # in the picture, of the thing that comes next
    is_first: bool  # no thing yet in this sentence
    is_relative: bool  # after "which"
    is_breaking: bool  # after a comma that parts adjectives or, if no more come, clauses
    is_ground_open: bool  # after "the background is"
    is_determined: bool  # after "a" or "the"
    is_known: bool  # after "the"
    is_denied: bool  # after "not"
    is_spent: bool  # after what was denied
    has_verb: bool  # since the last thing

    def __init__(self) -> None:
        self.draft = Draft()
        self.last = None
        self.topic = None
        self.new_sentence()

    def subject(self) -> int | None:
        """Whom a word without a thing of its own is about."""
        return self.first if self.has_verb and not self.is_relative and self.first is not None else self.last

    def stands(self, side: Side, told: str | None) -> None:
        """How the subject stands to what comes next, or to what `told` means: "it" or several others."""
        is_denied = self.is_denied and not self.is_spent  # not "not striped, left of"
        self.flush()
        if is_denied:
            return
        is_inverted = self.first is None and not self.has_verb
        subject = None if is_inverted else self.subject()
        if told is None:
            self.waiting = (side, subject, is_inverted)
        elif not is_inverted:
            earlier = [thing for thing in (self.first, self.opening, self.topic, self.before) if thing != subject]
            it = next((thing for thing in earlier if thing is not None), None)
            if told != "it" or it is not None:
                self.draft.relate(subject, side, it if told == "it" else None)
        elif told != "it" or self.last is not None:
            self.inverted = (side, self.last if told == "it" else None, True)

    def put(self, place: set[Side]) -> None:
        """Where in the picture the subject is, or what comes next."""
        self.flush()
        thing = self.subject()
        if (self.first is None and not self.has_verb) or thing is None:
            self.place = place
        else:
            self.draft.places[thing] |= place

    def drop(self) -> None:
        """Forget the phrase."""
        self.phrase = {}
        self.number = None
        self.is_determined = self.is_known = self.is_denied = self.is_spent = False

    def flush(self) -> None:
        """Adjectives that no thing followed are of one before, unless they are of something that is not read."""
        if self.phrase and not self.is_determined and self.holder is not None:
            for name, value in self.phrase.items():
                if name in ATTRIBUTES:
                    self.draft.things[self.holder].setdefault(name, value)
        self.drop()
        if self.is_breaking:
            self.new_clause()

    def break_off(self) -> None:
        """A comma, "and", "with"."""
        self.is_ground_open = False
        if self.phrase:
            self.is_breaking = True  # "small, striped": the comma parts adjectives, or clauses if no more come
        else:
            self.drop()
            self.new_clause()

    def new_clause(self) -> None:
        """Nothing is told of the clause yet."""
        self.before = self.first if self.first is not None else self.before
        self.first = None
        self.has_verb = self.is_relative = self.is_breaking = False

    def new_sentence(self) -> None:
        """Nothing is told of the sentence yet."""
        self.first = None
        self.before = None
        self.opening = None
        self.holder = None
        self.prior = None
        self.waiting = None
        self.inverted = None
        self.place = set()
        self.has_verb = self.is_relative = self.is_ground_open = self.is_breaking = False
        self.is_first = True
        self.drop()

    def stop(self) -> None:
        """A full stop, or the end of the text."""
        self.flush()
        if self.place and self.opening is not None and self.last is not None:
            self.draft.places[self.last] |= self.place  # "a star, on the left."
        if self.inverted and self.inverted[1] is not None:  # "a star, to the left of a ring." is of the star
            self.draft.relate(self.prior, self.inverted[0], self.inverted[1])
        self.topic = self.topic if self.opening is None else self.opening
        self.new_sentence()
