"""Where the files of a model are: a local folder, a folder shipped with raybench, or a repository of the Hugging Face hub.

Nothing here imports a model's library. A local folder is known by its content, never by its path; a hub that cannot
be reached is one sentence after one attempt, because the libraries would retry every file for half a minute.
"""

import hashlib
import importlib.resources
import json
import os
import re
from pathlib import Path
from typing import Any

from raybench.errors import RequestError, suggest

EMBEDDED = "raybench:"

_IRRELEVANT = {".md", ".png", ".jpg", ".gif", ".svg"}  # a changed model card changes no vector


def is_path(name: str) -> bool:
    """Whether a name is meant as a local path: a folder or file that is there, or text that starts like a path."""
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or os.path.exists(name)  # noqa: PTH110  # Path raises for long names


def is_file(name: str) -> bool:
    """Whether a file is there; False for text that cannot be a path."""
    return os.path.isfile(Path(name).expanduser())  # noqa: PTH113  # Path raises for long names


def check_repository(name: str, instead: str) -> None:
    """Raise RequestError unless a name can be one of the Hugging Face hub."""
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", name, re.ASCII):
        raise RequestError(f"{name!r} is neither a folder here nor a name like owner/model; {instead}")


def absolute(name: str) -> str:
    """A local path made absolute, because workers run in other folders."""
    return str(Path(name).expanduser().resolve())


def embedded_folder(name: str) -> Path:
    """The folder of a model shipped with raybench. Raises RequestError, suggesting the nearest, for any other name."""
    assets = Path(str(importlib.resources.files("raybench"))) / "assets"
    known = sorted(folder.name for folder in assets.iterdir() if folder.is_dir()) if assets.is_dir() else []
    if name not in known:
        raise RequestError(f"no model called {name!r} is shipped with raybench; {suggest(name, known)}")
    return assets / name


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises RequestError where the file is missing or is anything else."""
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise RequestError(f"{file.parent} holds no {file.name}; give the folder that the model was saved to") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} cannot be read as JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise RequestError(f"{file} is not a JSON object; save the model again")
    return config


def three_numbers(value: Any, what: str) -> tuple[float, float, float]:
    """A mean or deviation of a configuration, one for each colour; one number stands for all three."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3
    if len(values) != 3 or not all(isinstance(number, (int, float)) for number in values):
        raise RequestError(f"{what} has {value!r} for mean or deviation; it must be one or three numbers")
    return float(values[0]), float(values[1]), float(values[2])


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files; hidden files, model cards and pictures are left out."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not re.search(r"(^|/)\.", name) and file.suffix.lower() not in _IRRELEVANT:
            digest.update(f"{name}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of one file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hub_commit(repository: str, revision: str | None, instead: str) -> str:
    """The commit that a hub revision stands for, at once or not at all; `instead` says what to do without a hub."""
    import httpx2
    from huggingface_hub import errors, resolve_revision, try_to_load_from_cache

    try:
        commit = str(resolve_revision(repository, revision=revision).resolved)
        if commit == revision and not isinstance(
            try_to_load_from_cache(repository, "config.json", revision=commit), str
        ):
            resolve_revision(
                repository
            )  # a commit resolves to itself without asking the hub, so ask whether it answers
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError):
        what = repository if revision is None else f"{repository} at revision {revision!r}"
        raise RequestError(f"{what} is not on the Hugging Face hub, or is private; check its name or log in") from None
    except errors.HFValidationError:
        raise RequestError(f"{repository!r} is neither a folder here nor a name like owner/model; {instead}") from None
    except (errors.RevisionResolutionError, httpx2.HTTPError):
        raise RequestError(
            f"{repository} could not be fetched: the Hugging Face hub cannot be reached and no copy is cached; {instead}"
        ) from None
    return commit


def hub_file(repository: str, file: str, revision: str | None, instead: str) -> Path | None:
    """One small file of a hub repository, downloaded or from the cache; None where the repository has no such file."""
    from huggingface_hub import errors, hf_hub_download

    commit = hub_commit(repository, revision, instead)
    try:
        return Path(hf_hub_download(repository, file, revision=commit))
    except errors.LocalEntryNotFoundError:
        raise RequestError(
            f"{file} of {repository} could not be fetched from the Hugging Face hub; {instead}"
        ) from None
    except errors.EntryNotFoundError:
        return None
