"""One evaluation file says everything; reading it checks everything that can be checked without loading.

The file is YAML that mirrors a dataclass field for field, and its values are specs. There are two kinds: with the key
`images` an evaluation of images (`Evaluation`), with the key `corpus` one of vectors (`VectorEvaluation`). An unknown
key or name is an error that suggests the nearest known one; a value out of range is an error and never adjusted.
"""

from raybench.errors import RequestError, SpecError
from raybench.experiments import evaluation_checks as of_images
from raybench.experiments import vector_evaluation as of_vectors
from raybench.experiments import yaml_file
from raybench.experiments.evaluation import Evaluation
from raybench.experiments.vector_evaluation import VectorEvaluation


def load(path: str, settings: tuple[str, ...] = ()) -> Evaluation | VectorEvaluation:
    """Read and check an evaluation file; `settings` are `key=value` texts that override it, such as `embed.chunk=8`."""
    text = yaml_file.read_text(path, "evaluation file")
    return parse(text, path, settings)


def parse(text: str, where: str, settings: tuple[str, ...] = ()) -> Evaluation | VectorEvaluation:
    """Check the text of an evaluation file; `where` names it in errors."""
    content = yaml_file.read_keys(text, where, settings, "an evaluation file needs name, and images or corpus")
    if {"images", "corpus"} <= content.keys():
        raise RequestError(
            f"{where} has the keys images and corpus; an evaluation is of images or of vectors: remove one"
        )
    if not {"images", "corpus"} & content.keys():
        raise RequestError(f"{where} has neither the key images nor the key corpus; add one: what is evaluated")
    kind, checked = (VectorEvaluation, of_vectors.checked) if "corpus" in content else (Evaluation, of_images.checked)
    evaluation = yaml_file.build(kind, content, where)
    try:
        made: Evaluation | VectorEvaluation = checked(evaluation, where)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    return made


def dump(evaluation: Evaluation | VectorEvaluation) -> str:
    """The evaluation as YAML, defaults included; it parses back to the same evaluation."""
    return yaml_file.write_text(evaluation)
