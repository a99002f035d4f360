"""Models on the Hugging Face Hub, downloaded and sent by its own client. Imports no torch."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanogpt import extras
from nanogpt.errors import UserError

GPT2 = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
FILES = ("*.json", "*.safetensors", "merges.txt")  # never a pickle
IN_FOLDERS = "*/*"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def is_repository(name: str) -> bool:
    """Return whether a text has the form of a repository's name, OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None


def download(repository: str) -> Path:
    """Return the folder with the files of a model: the newest version, or without a network the one in the cache.

    Raise `UserError` if it cannot be had, or has no safetensors files.
    """
    advice = "or give a folder that has its files: FOLDER in `nanogpt import hf`, hf:FOLDER in --init_from"
    folder = _snapshot(repository, FILES, (IN_FOLDERS,), advice)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{repository} has no safetensors files, and pickles are not loaded because they can run code; if you "
            f"trust it, convert it once, in Python: from transformers import AutoModelForCausalLM, AutoTokenizer; "
            f"[each.from_pretrained('{repository}').save_pretrained('FOLDER') for each in (AutoModelForCausalLM, "
            "AutoTokenizer)]"
        )
    return folder


def download_run(repository: str, patterns: Sequence[str]) -> Path:
    """Return the folder with the files of a repository that match the patterns, like `download`. Raise `UserError`."""
    return _snapshot(repository, patterns, ("*.bin", "*.pt", "*.pkl"), "or later")


def upload(repository: str, files: Mapping[str, bytes | Path], *, private: bool, message: str) -> str:
    """Send files, by their path in the repository, as one commit, and return the address of the repository.

    It is made if it does not exist; `private` is then who may see it. Checkpoints that it has and that are not among
    the files are removed in the same commit. Raise `UserError`.
    """
    hub = _client(f"sending {repository}")
    api = hub.HfApi()
    with _explained(repository, "sent", "it needs `hf auth login` with a token that may write"):
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        old = [
            name for name in api.list_repo_files(repository) if name.startswith("checkpoints/") and name not in files
        ]
        changes = [hub.CommitOperationDelete(path_in_repo=name) for name in old]
        changes += [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        api.create_commit(repository, changes, commit_message=message)
    return address


def _snapshot(repository: str, patterns: Sequence[str], ignored: Sequence[str], advice: str) -> Path:
    hub = _client(f"downloading {repository}")
    with _explained(repository, "downloaded", advice):
        return Path(hub.snapshot_download(repository, allow_patterns=list(patterns), ignore_patterns=list(ignored)))


def _client(what: str) -> Any:
    """Return the package `huggingface_hub`, which draws no bars if the terminal is the app's, and logs no warnings."""
    hub = extras.load("huggingface_hub", "hub", what)
    utils = extras.load("huggingface_hub.utils", "hub", what)  # no attribute of the package before it is imported
    utils.logging.set_verbosity_error()
    if threading.current_thread() is not threading.main_thread():
        utils.disable_progress_bars()
    return hub


@contextmanager
def _explained(repository: str, done: str, advice: str) -> Iterator[None]:
    """Turn errors of the network and the hub into a `UserError`: the repository could not be `done`."""
    errors = extras.load("huggingface_hub.errors", "hub", repository)
    page = f"https://huggingface.co/{repository}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repository} asks for an account: accept its terms at {page} and run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"the hub has no model {repository} that this account may read; see {page}") from error
    except Exception as error:
        if not (extras.is_hub_error(error) or isinstance(error, RuntimeError)):  # the second: of hf_xet
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{repository} could not be {done} ({reason}): try again, {advice}") from error
