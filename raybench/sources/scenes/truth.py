"""What is known to be true of the pictures of a scenes collection: a question for each query, and verdicts on what is said."""

from collections.abc import Mapping
from dataclasses import dataclass

from raybench.metrics.words import exact_match
from raybench.sources.scenes.attributes import ATTRIBUTES, accuracy, accuracy_untold
from raybench.sources.scenes.questions import answer_is_right, question_for, questions
from raybench.sources.scenes.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class SceneTruth:
    """The scenes of a collection by image id."""

    scenes: Mapping[str, Scene]

    def question(self, query_id: str, image_id: str, query: str) -> tuple[str, str] | None:
        """A question about the picture that its query does not answer, and the answer; the same for the same query."""
        asked = question_for(self.scenes[image_id], query, query_id)
        return asked.text, asked.answer

    def is_right(self, image_id: str, question: str, right: str, said: str) -> bool:
        """Whether an answer says the right one, in any words for it."""
        known = (one for one in questions(self.scenes[image_id]) if (one.text, one.answer) == (question, right))
        asked = next(known, None)
        # A table may ask other questions, or the same with another answer: then its answer is the right one, in its own words.
        return bool(exact_match(said, [right])) if asked is None else answer_is_right(said, asked)

    def judge(self, image_id: str, query: str, said: str) -> dict[str, tuple[int, int]]:
        """By measure, how many facts of the scene a text states rightly, and of how many."""
        scene = self.scenes[image_id]
        every, untold = accuracy(said, scene), accuracy_untold(said, query, scene)
        found = {"accuracy": (every.all.right, every.all.of), "accuracy_untold": (untold.all.right, untold.all.of)}
        counts = every.counts
        return found | {f"accuracy[{name}]": (counts[name].right, counts[name].of) for name in ATTRIBUTES}
