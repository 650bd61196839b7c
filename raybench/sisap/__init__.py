"""The SISAP indexing challenges: result files as their evaluators read them, their recall, and what was published."""

from raybench.sisap.published import published_projection_recall, published_results
from raybench.sisap.recall import challenge_recall
from raybench.sisap.results import StoredResults, read_results, write_results
from raybench.sisap.years import YEARS, Task, Year, task_of

__all__ = [
    "YEARS", "StoredResults", "Task", "Year", "challenge_recall", "published_projection_recall", "published_results",
    "read_results", "task_of", "write_results",
]  # fmt: skip
