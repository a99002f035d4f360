"""Files of a data set on the Hugging Face Hub, listed by its own client, `huggingface_hub`."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, ClassVar

from nanogpt import extras
from nanogpt.data.sources import base
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.events import Event

COPY = "or use a local copy with --source FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """The files of the data set `repo` whose paths match `glob`, at a `revision`: a branch, a tag or a commit.

    The commit is found when a preparation starts, so that all shards are of one version. A data set that asks for an
    account is read with the token that `hf auth login` stores, or that HF_TOKEN has.
    """

    name: ClassVar[str] = "hub"
    is_corpus: ClassVar[bool] = True

    repo: str
    glob: str
    revision: str = "main"
    timeout_s: float = 20

    def validate(self) -> None:
        if self.repo.count("/") != 1:
            raise UserError(f"repo = {self.repo!r} must be the owner and the name, such as HuggingFaceFW/fineweb-edu")
        if not 0 < self.timeout_s <= 3600:
            raise UserError(f"timeout_s={self.timeout_s} must be above 0 and at most 3600")

    def shards(self, encoding: str | None = None) -> Generator[Event, None, list[Shard]]:
        yield from ()
        hub, errors = self._load("huggingface_hub"), self._load("huggingface_hub.errors")
        folder = re.split(r"[*?[]", self.glob)[0].rpartition("/")[0]
        try:
            api = hub.HfApi()
            commit = api.dataset_info(self.repo, revision=self.revision, timeout=self.timeout_s).sha
            listed = api.list_repo_tree(self.repo, folder or None, recursive=True, revision=commit, repo_type="dataset")
            found = {each.path: each for each in listed if hasattr(each, "size") and fnmatch(each.path, self.glob)}
        except errors.GatedRepoError as error:
            raise UserError(
                f"{self.repo} asks for an account: accept its terms at https://huggingface.co/datasets/{self.repo} and "
                f"run `hf auth login`; {COPY}"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise UserError(f"the hub has no data set {self.repo} that this account may read; {COPY}") from error
        except Exception as error:
            if not extras.is_hub_error(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the files of {self.repo} could not be listed ({reason}): try again, {COPY}") from error
        if not found:
            raise UserError(f"{self.repo} has no files {self.glob} at {self.revision}; {COPY}")
        return [self._shard(hub, path, found[path], commit) for path in sorted(found)]

    def _shard(self, hub: Any, path: str, file: Any, commit: str) -> Shard:
        url = hub.hf_hub_url(self.repo, path, repo_type="dataset", revision=commit)
        return Shard(name=path, urls=(url,), size=file.size, sha256=file.lfs.sha256 if file.lfs else None)

    def request_headers(self) -> dict[str, str]:
        headers: dict[str, str] = self._load("huggingface_hub.utils").build_hf_headers()
        return headers

    @property
    def stall_s(self) -> float:
        return self.timeout_s

    def available_offline(self) -> bool:
        return False

    def describe(self) -> str:
        return f"huggingface.co/datasets/{self.repo}: {self.glob}"

    def selection(self) -> str:
        return self.revision

    def origin(self) -> dict[str, Any]:
        return {"url": f"https://huggingface.co/datasets/{self.repo}", "glob": self.glob}

    def _load(self, module: str) -> Any:
        return extras.load(module, "corpora", f"the data set {self.repo}")
