"""What a generator is asked, in words: a template per task, and another wording where there is no picture to look at.

Pictures come before the words, in the order of retrieval. A prompt's version is a digest of all its words, so that an answer
is never taken for one to other words.
"""

from dataclasses import dataclass

from raybench.spec import content_key


@dataclass(frozen=True, slots=True)
class Prompt:
    """The words of a task; `{query}` and `{question}` stand for those of a query."""

    name: str
    shown: str  # the words after pictures
    unseen: str  # the words without any picture: the closed-book control is asked for its best guess
    asks_question: bool = False  # whether queries need a question beside their text

    @property
    def version(self) -> str:
        """The name and a digest of the words, such as "describe-1f0c2a9b"."""
        return f"{self.name}-{content_key(self.shown, self.unseen)[:8]}"

    def words(self, query: str, question: str | None, *, pictures: int) -> str:
        """The words for one query."""
        words = self.shown if pictures else self.unseen
        # One pass, so that a query that holds "{question}" stays as it is.
        parts = words.split("{query}")
        return query.join(part.replace("{question}", question or "") for part in parts)


PROMPTS = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            "describe",
            'These pictures were found for "{query}". Describe the one that fits best, in one sentence.',
            'There is no picture. Describe what a picture of "{query}" most likely shows, in one sentence.',
        ),
        Prompt(
            "answer",
            'These pictures were found for "{query}". Answer in one word, from the one that fits best: {question}',
            'There is no picture. Answer in one word what is most likely for "{query}": {question}',
            asks_question=True,
        ),
        Prompt(
            "caption",
            "Describe the first picture in one sentence.",
            "There is no picture. Describe what a picture most likely shows, in one sentence.",
        ),
    )
}

OWN = "own"


def own_prompt(shown: str, unseen: str) -> Prompt:
    """A prompt of the user's own words; it needs questions where it asks one."""
    return Prompt(OWN, shown, unseen, asks_question="{question}" in shown)
