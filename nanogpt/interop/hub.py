"""Models on the Hugging Face Hub: their files are downloaded by its own client into its own cache. Imports no torch."""

import re
import threading
from pathlib import Path

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
    what = f"downloading {repository}"
    hub, errors = (extras.load(module, "hub", what) for module in ("huggingface_hub", "huggingface_hub.errors"))
    if threading.current_thread() is not threading.main_thread():  # the terminal is the app's: no bars in it
        hub.utils.disable_progress_bars()
    page = f"https://huggingface.co/{repository}"
    try:
        folder = Path(hub.snapshot_download(repository, allow_patterns=list(FILES), ignore_patterns=[IN_FOLDERS]))
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repository} asks for an account: accept its terms at {page} and run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"the hub has no model {repository} that this account may read; see {page}") from error
    except Exception as error:
        if not extras.is_hub_error(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{repository} could not be downloaded ({reason}): try again, or give a folder that has its files, with "
            "--init_from=hf:FOLDER"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{repository} has no safetensors files, and pickles are not loaded because they can run code; if you "
            f"trust it, convert it once, in Python: from transformers import AutoModelForCausalLM, AutoTokenizer; "
            f"[each.from_pretrained('{repository}').save_pretrained('FOLDER') for each in (AutoModelForCausalLM, "
            "AutoTokenizer)]"
        )
    return folder
