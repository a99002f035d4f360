"""What a model does with a prompt, computed in a worker thread: attention, logit lens, embeddings, losses by token."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from nanogpt.errors import UserError
from nanogpt_tui.session.completions import LIVE, Source
from nanogpt_tui.session.generation_job import ModelCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nanogpt.inspection.attention import Attention, HeadScores
    from nanogpt.inspection.logit_lens import LensLayer
    from nanogpt.inspection.token_losses import TokenLosses
    from nanogpt.runs import LoadedModel
    from nanogpt.tokenizers.base import Tokenizer
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.session import Session

T = TypeVar("T")
View = Literal["attention", "lens", "embeddings", "losses"]
PROMPT_TOKENS = 64  # of a prompt at most: the last ones
DEFAULT_TOKENS = 40  # of the validation split, without a prompt
LOSS_TOKENS = 8192  # of the validation split, whose losses are measured
LOSS_BATCH = 4  # windows
TOP = 10  # predictions of a layer, neighbours of a token
CACHED = 16  # inspections


@dataclass(frozen=True, slots=True)
class Request:
    """A view of a model and a prompt.

    `prompt`: "" for the beginning of the validation split. `baseline`: for the losses, the step of the checkpoint to
    compare with; None for the first one. `live_step`: the step of the training when it was asked for live weights.
    """

    source: Source
    view: View
    prompt: str = ""
    baseline: int | None = None
    live_step: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class AttentionFound:
    """The attention of every layer, and the scores of each head by layer and number; none of a context under 4."""

    layers: "list[Attention]"
    scores: "dict[tuple[str, int], HeadScores]"


@dataclass(frozen=True, slots=True, eq=False)
class LensFound:
    """What each layer would predict, the first layer first."""

    layers: "list[LensLayer]"


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingsFound:
    """`points` (V, 2) of the tokens' map, the `share` of the variance that it shows, and by token of the prompt the
    most similar tokens with their cosine similarity."""

    points: "NDArray[np.float32]"
    share: float
    nearest: dict[int, list[tuple[int, float]]]


@dataclass(frozen=True, slots=True, eq=False)
class LossesFound:
    """The losses on the validation split, and those of the checkpoint `before_step`, if there is another one."""

    losses: "TokenLosses"
    before: "TokenLosses | None"
    before_step: int


Found = AttentionFound | LensFound | EmbeddingsFound | LossesFound


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """The answer to a request. If `found` is None, `problem` is the reason in one line.

    `ids` are the tokens of the prompt, none of the losses. `checkpoints` are the steps that the run has.
    """

    request: Request
    run: str
    folder: Path
    step: int
    val_loss: float | None
    checkpoints: tuple[int, ...]
    tokenizer: "Tokenizer"
    prompt: str
    ids: tuple[int, ...]
    found: Found | None
    problem: str = ""


class Inspector:
    """Computes the request made last. `changed` is called in the interface's thread when there is an answer.

    One request is computed at a time. A newer one ends it early, or waits for it.
    """

    def __init__(self, session: "Session", changed: Callable[[], None]) -> None:
        self._session, self._changed, self._models = session, changed, ModelCache(session)
        self._wanted: Request | None = None
        self._is_running = self._is_superseded = False
        self._cache: dict[Request, Inspection] = {}  # the one used last is at the end
        self._version: tuple[History | None, int] = (None, 0)  # the history that the cache is of, and its generation
        self._losses: dict[tuple[str, int | None], TokenLosses] = {}  # of checkpoints, by `ModelCache.key_of`
        self.shown: Inspection | None = None
        self.error = ""  # why the weights of the last request cannot be loaded
        self.took_s = 0.0  # of the last computation
        self.ended_at = 0.0  # time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being computed."""
        return self._is_running

    @property
    def is_outdated(self) -> bool:
        """Whether a step may have other weights than at the last request: after a rollback, or in another run."""
        return self._version != self._present_version()

    def _present_version(self) -> "tuple[History | None, int]":
        history = self._session.history
        return history, history.generation if history is not None else 0

    def request(self, request: Request) -> None:
        """Ask for a view. Does nothing if it is the request made last, unless that is outdated."""
        if self.is_outdated:
            self._version, self._wanted = self._present_version(), None
            self._cache.clear()
        if request == self._wanted:
            return
        self._wanted, self.error, self._is_superseded = request, "", True
        if request in self._cache:
            self._show(self._cache.pop(request))
        elif not self._is_running:
            self._start(request)

    def stop(self) -> None:
        """End the computation, and start no other one until the next request."""
        self._wanted, self._is_superseded = None, True

    def _show(self, inspection: Inspection) -> None:
        self._cache[inspection.request] = self.shown = inspection
        while len(self._cache) > CACHED:
            del self._cache[next(iter(self._cache))]
        self._changed()

    def _start(self, request: Request) -> None:
        self._is_running, self._is_superseded = True, False
        began = time.monotonic()

        def show(inspection: Inspection | None, error: str) -> None:
            self._is_running, self.ended_at = False, time.monotonic()
            self.took_s = self.ended_at - began
            wanted = self._wanted
            if self._is_superseded:
                if wanted is not None and wanted not in self._cache:  # else it is shown
                    self._start(wanted)
            elif inspection is not None:
                self._show(inspection)
            else:
                self.error = error
                self._changed()

        self._session.fetch(lambda: self._inspect(request), show, "look")

    # ---- in the worker's thread

    def _inspect(self, request: Request) -> Inspection:
        """Return the answer. Raise `UserError` if the weights cannot be loaded, or the request is no longer wanted."""
        from nanogpt.runs import list_checkpoints

        def is_wanted() -> bool:
            return not self._is_superseded

        folder = self._folder(request.source)
        loaded = self._models.load_source(request.source, is_wanted)
        checkpoints = tuple(each.step for each in list_checkpoints(folder))
        found: Found | None = None
        prompt, ids, problem = request.prompt, list[int](), ""
        try:
            if request.view == "losses":
                found = self._compare_losses(request, folder, loaded, checkpoints, is_wanted)
            else:
                prompt, ids = tokens_of(loaded, folder, request.prompt)
                found = inspect_prompt(loaded, request.view, ids, is_wanted)
        except UserError as error:
            problem = str(error)
        return Inspection(
            request=request,
            run=loaded.run,
            folder=folder,
            step=loaded.step,
            val_loss=loaded.val_loss,
            checkpoints=checkpoints,
            tokenizer=loaded.tokenizer,
            prompt=prompt,
            ids=tuple(ids),
            found=found,
            problem=problem,
        )

    def _folder(self, source: Source) -> Path:
        from nanogpt.runs.checkpoints import locate

        if source.which != LIVE:
            return locate(source.run, source.which, self._session.runs_dir)[0]
        if self._session.folder is None:
            raise UserError("no run is training: choose a checkpoint instead")
        return self._session.folder

    def _compare_losses(
        self,
        request: Request,
        folder: Path,
        loaded: "LoadedModel",
        checkpoints: tuple[int, ...],
        is_wanted: Callable[[], bool],
    ) -> LossesFound:
        losses = self._measure_losses(request.source, folder, loaded, is_wanted)
        step = request.baseline if request.baseline in checkpoints else min(checkpoints, default=None)
        if step is None or step == loaded.step:
            return LossesFound(losses, None, 0)
        source = Source(str(folder), str(step))
        before = self._models.load_source(source, is_wanted)
        return LossesFound(losses, self._measure_losses(source, folder, before, is_wanted), step)

    def _measure_losses(
        self, source: Source, folder: Path, loaded: "LoadedModel", is_wanted: Callable[[], bool]
    ) -> "TokenLosses":
        key = self._models.key_of(loaded)
        if source.which == LIVE or key is None:
            return losses_of(loaded, folder, is_wanted)
        if key not in self._losses:
            self._losses[key] = losses_of(loaded, folder, is_wanted)
        return self._losses[key]


def tokens_of(loaded: "LoadedModel", folder: Path, prompt: str) -> tuple[str, list[int]]:
    """Return a prompt and its last ids, at most PROMPT_TOKENS and block_size.

    "" is the beginning of the validation split.
    Raise `UserError` for characters that the tokenizer does not know, and if the prompt has no token.
    """
    from nanogpt.runs.evaluation import open_run_dataset

    most = min(PROMPT_TOKENS, loaded.model.config.block_size)
    if prompt:
        ids = loaded.tokenizer.encode(prompt)
    else:
        try:
            dataset = open_run_dataset(folder)
        except UserError:
            raise UserError("the data set of the run is not here, so it has no text: write a prompt") from None
        dataset.check_ids("val")
        ids = [int(id) for id in dataset.split("val")[: min(DEFAULT_TOKENS, most)]]
        prompt = loaded.tokenizer.decode(ids)
    if not ids:
        raise UserError("the prompt has no token: write a longer one")
    return prompt, ids[-most:]


def inspect_prompt(loaded: "LoadedModel", view: View, ids: list[int], is_wanted: Callable[[], bool]) -> Found:
    """Return what a model does with the tokens of a prompt. Raise `UserError` if its architecture cannot show it."""
    import torch

    from nanogpt.inspection import attention, embeddings, logit_lens

    model, sequence = loaded.model, torch.tensor(ids, device=loaded.device)
    if view == "attention":
        layers = attention.attention_of(model, sequence)
        heads = attention.score_heads(model) if model.config.block_size >= attention.SHORTEST_CONTEXT else []
        return AttentionFound(layers, {(each.layer, each.head): each for each in heads})
    if view == "lens":
        return LensFound(logit_lens.logit_lens(model, sequence, TOP))
    vectors = embeddings.embeddings_of(model)[: loaded.tokenizer.vocab_size]
    points, share = embeddings.map_of(vectors)
    nearest = {id: embeddings.nearest_tokens(vectors, id, TOP) for id in while_wanted(dict.fromkeys(ids), is_wanted)}
    return EmbeddingsFound(points, share, nearest)


def losses_of(loaded: "LoadedModel", folder: Path, is_wanted: Callable[[], bool]) -> "TokenLosses":
    """Return the losses on about LOSS_TOKENS of the validation split. Raise `UserError` if they cannot be measured."""
    from nanogpt.data.batches import sliding_batches
    from nanogpt.inspection.token_losses import token_losses
    from nanogpt.runs.evaluation import open_run_dataset

    size, dataset = loaded.model.config.block_size, open_run_dataset(folder)
    dataset.check_ids("val")
    windows = sliding_batches(dataset.split("val"), size, LOSS_BATCH, stride=size)
    batches = islice(windows, max(1, LOSS_TOKENS // (size * LOSS_BATCH)))
    return token_losses(loaded.model, while_wanted(batches, is_wanted))


def while_wanted(items: Iterable[T], is_wanted: Callable[[], bool]) -> Iterator[T]:
    """Yield the items. Raise `UserError` as soon as they are no longer wanted."""
    for item in items:
        if not is_wanted():
            raise UserError("stopped")
        yield item
