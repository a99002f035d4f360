"""Text generation in a worker thread, with knobs that can change meanwhile, and the models that it uses."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Event, Stopped, Token
from nanogpt.training import Save
from nanogpt_tui.session.completions import LIVE, Completion, Source

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel
    from nanogpt.runs import LoadedModel
    from nanogpt.tokenizers.base import Tokenizer
    from nanogpt_tui.session.session import Session

ALTERNATIVES = 8  # reported for each token
CACHED_MODELS = 2
# Pause after each token while a run is training here. Three threads share the interpreter lock then, and without the
# pause a key press would wait for two of them.
TOKEN_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsLoaded:
    """The weights are loaded. `prefix` holds the tokens that the completion had already, with joined texts."""

    run: str
    step: int
    val_loss: float | None
    device: str
    vocab_size: int
    tokenizer: str
    is_average: bool
    prefix: tuple[Token, ...]


class ModelCache:
    """Load models in worker threads, and keep the CACHED_MODELS used last."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._loading = threading.Lock()
        # key: (path, time of its change), or (run, step) for live weights; the one used last is at the end
        self._models: dict[tuple[str, int | None], LoadedModel] = {}

    def load(self, completion: Completion, is_wanted: Callable[[], bool]) -> "LoadedModel":
        """Return the model to continue a completion with.

        That is the checkpoint that the completion was started with. For live weights it is the model that it was
        started with if that is still cached, else a new copy. Raise `UserError` if the model cannot be loaded, is of
        another run or has another tokenizer, or as soon as `is_wanted()` is False.
        """
        key, source = (completion.run, completion.step), completion.exact_source
        if source.which == LIVE and key in self._models:
            loaded = self._add(key, self._models[key])
        else:
            run = source.run or completion.run or None  # another run may be the newest by now
            try:
                loaded = self.load_source(Source(run, source.which), is_wanted)
            except UserError as error:
                if completion.step is None or source.which == LIVE:
                    raise
                raise UserError(f"the weights of this text cannot be loaded ({error}): write a new text") from error
        if completion.run not in ("", loaded.run):
            raise UserError(f"this text is by {completion.run}, and {loaded.run} is training now: write a new text")
        if not has_written(loaded.tokenizer, completion):
            raise UserError(f"this text is by an earlier run {loaded.run} with another tokenizer: write a new text")
        losses = completion.val_loss, loaded.val_loss
        if completion.step == loaded.step and None not in losses and repr(losses[0]) != repr(losses[1]):  # NaN is NaN
            raise UserError(f"this text is by an earlier run {loaded.run} with other weights: write a new text")
        return loaded

    def load_source(self, source: Source, is_wanted: Callable[[], bool]) -> "LoadedModel":
        """Return the model with these weights; live ones are copied. Errors as `load`."""
        from nanogpt.hardware import device_beside_training
        from nanogpt.runs import load_model
        from nanogpt.runs.checkpoints import locate

        if source.which == LIVE:
            loaded = copy_live_weights(self._session, is_wanted)
            return self._add((loaded.run, loaded.step), loaded)
        _, path = locate(source.run, source.which, self._session.runs_dir)
        with self._loading:  # two panes may ask for the same one
            # another run of that name has other weights at this path; `load_model` says if they are gone
            key = (str(path), path.stat().st_mtime_ns if path.exists() else None)
            loaded = self._models.get(key) or load_model(str(path), device=device_beside_training())
            return self._add(key, loaded)

    def load_exact(self, completion: Completion) -> "LoadedModel | None":
        """Return the weights that generated a completion, or None for live ones that are gone. Errors as `load`."""
        if completion.source.which == LIVE and (completion.run, completion.step) not in self._models:
            return None
        loaded = self.load(completion, lambda: True)
        return loaded if (loaded.run, loaded.step) == (completion.run, completion.step) else None

    def key_of(self, loaded: "LoadedModel") -> tuple[str, int | None] | None:
        """Return what tells these weights from all others, or None if they are no longer cached."""
        return next((key for key, each in self._models.items() if each is loaded), None)

    def _add(self, key: tuple[str, int | None], loaded: "LoadedModel") -> "LoadedModel":
        others = [(other, model) for other, model in self._models.items() if other != key]
        self._models = dict([*others, (key, loaded)][-CACHED_MODELS:])
        return loaded


def copy_live_weights(session: "Session", is_wanted: Callable[[], bool]) -> "LoadedModel":
    """Copy the weights that are being trained at the next step boundary; training continues.

    Raise `UserError` if no run is training, or as soon as `is_wanted()` is False.
    """
    from nanogpt.runs import LoadedModel
    from nanogpt.runs.load import load_tokenizer
    from nanogpt.training import Copy

    training, folder = session.training, session.folder
    if session.can_send and not session.is_training:
        return load_saved_weights(session, is_wanted)
    if not session.is_training or training is None or folder is None:
        raise UserError("no run is training: choose a checkpoint instead")
    answers: queue.SimpleQueue[tuple[LanguageModel | None, int]] = queue.SimpleQueue()
    training.commands.put(Copy(lambda model, step: answers.put((model, step))))
    while True:
        try:
            model, step = answers.get(timeout=0.1)
            break
        except queue.Empty:
            if training.done:
                raise UserError("the training has just ended: choose one of its checkpoints instead") from None
            if not is_wanted():
                raise UserError("stopped before the weights were loaded") from None
    if model is None:
        raise UserError("out of memory: no copy of the weights that are being trained; choose a checkpoint instead")
    device = str(model.device)
    return LoadedModel(model, load_tokenizer(folder), folder.name, step, None, device)


def load_saved_weights(session: "Session", is_wanted: Callable[[], bool]) -> "LoadedModel":
    """Ask the process that trains the run for a checkpoint, wait for it and load it. Errors as `copy_live_weights`."""
    from nanogpt.hardware import device_beside_training
    from nanogpt.runs import load_model

    session.send(Save())
    while session.client is not None and (session.client.pending or session.client.saving):
        time.sleep(0.1)
        if not is_wanted():
            raise UserError("stopped before the weights were loaded")
    if session.client is None or session.folder is None:
        raise UserError("the training has just ended: choose one of its checkpoints instead")
    return load_model(str(session.folder), "latest", device_beside_training(), weights="raw")


class GenerationJob:
    """Generate into `completion`, after the tokens that it has. Starts when it is made.

    `knobs()` is called before each token, in the worker's thread; its `max_new_tokens` counts new tokens only.
    `changed(job)` is called in the interface's thread after each few tokens and at the end.
    """

    def __init__(
        self,
        session: "Session",
        models: ModelCache,
        completion: Completion,
        knobs: Callable[[], SamplingConfig],
        changed: Callable[["GenerationJob"], None],
    ) -> None:
        self.completion = completion
        self._session, self._models, self._knobs, self._changed = session, models, knobs, changed
        self._has_ended = False  # of its own: the next job of the completion clears the reason
        self._prefix = tuple(completion.tokens)
        self._next_token = len(self._prefix)
        self._loaded: WeightsLoaded | None = None
        self._loaded_at = 0.0  # time.monotonic() when the weights were loaded
        self._record_knobs(dataclasses.replace(knobs(), seed=completion.knobs.seed))
        completion.reason = completion.error = ""
        self._worker = session.start_worker(self._work, self._on_items, per_second=20, name="sample")

    @property
    def done(self) -> bool:
        """Whether generation has ended, for any reason."""
        return self._has_ended

    def stop(self) -> None:
        """End generation after the current token; the tokens so far stay."""
        self._worker.cancel()
        self._collect()
        self._end("esc")

    def _end(self, reason: str, error: str = "") -> None:
        if not self._has_ended:
            self._has_ended = True
            completion = self.completion
            completion.reason, completion.error = reason, error
            drawn = len(completion.tokens)
            completion.knob_changes = [each for each in completion.knob_changes if each[0] < drawn]

    def _work(self) -> Iterator[WeightsLoaded | Event]:
        from nanogpt import sampling

        completion = self.completion
        loaded = self._models.load(completion, lambda: not self.done)
        prefix = with_joined_texts(loaded.tokenizer, self._prefix)
        yield WeightsLoaded(
            run=loaded.run,
            step=loaded.step,
            val_loss=loaded.val_loss,
            device=loaded.device,
            vocab_size=loaded.tokenizer.vocab_size,
            tokenizer=fingerprint(loaded.tokenizer),
            is_average=loaded.is_average,
            prefix=prefix,
        )
        ids = [token.id for token in prefix]
        yield from sampling.generate(
            loaded.model, loaded.tokenizer, completion.prompt, self._read_knobs, written=ids, alternatives=ALTERNATIVES
        )

    def _read_knobs(self) -> SamplingConfig:
        """Return the knobs for the next token and record a change. Runs in the worker's thread before each token."""
        knobs = dataclasses.replace(self._knobs(), seed=self.completion.knobs.seed)
        if knobs != self._active_knobs and not self.done:
            self._record_knobs(knobs)
        self._next_token += 1
        if self._session.is_training:
            time.sleep(TOKEN_PAUSE_S)
        return dataclasses.replace(knobs, max_new_tokens=knobs.max_new_tokens + len(self._prefix))

    def _record_knobs(self, knobs: SamplingConfig) -> None:
        """Record that the next token and those after it are drawn with `knobs`."""
        completion, at = self.completion, self._next_token
        self._active_knobs = knobs
        changes = [each for each in completion.knob_changes if each[0] < at]
        if at == 0:
            completion.knobs = knobs
        elif knobs != (changes[-1][1] if changes else completion.knobs):
            changes.append((at, knobs))
        completion.knob_changes = changes

    def _on_items(self) -> None:
        if self.done:  # stopped: these items are later, and another job may already generate into the completion
            return
        ended = self._worker.done  # read first: what it yields after this is taken the next time
        self._collect()
        if ended and not self.done:
            self._end("esc" if self._worker.error is None else "error", self._worker.error or "")
        self._changed(self)

    def _collect(self) -> None:
        completion = self.completion
        for event in self._worker.drain():
            match event:
                case WeightsLoaded():
                    completion.device, completion.vocab_size = event.device, event.vocab_size
                    completion.tokenizer, completion.is_continued = event.tokenizer, bool(event.prefix)
                    completion.tokens[:] = event.prefix
                    self._loaded, self._loaded_at = event, time.monotonic()
                    if not event.prefix:
                        self._record_weights(event)
                case Token():
                    if self._loaded is not None and len(completion.tokens) == len(self._prefix):
                        self._record_weights(self._loaded)
                    completion.tokens.append(event)
                    passed_s = time.monotonic() - self._loaded_at
                    completion.tokens_per_second = (len(completion.tokens) - len(self._prefix)) / max(passed_s, 1e-3)
                case Stopped():
                    completion.tokens_per_second = event.tokens_per_second
                    self._end(event.reason)

    def _record_weights(self, loaded: WeightsLoaded) -> None:
        """Record that the next token and those after it are by these weights."""
        completion = self.completion
        if completion.tokens and completion.step not in (None, loaded.step):
            completion.weights_since = len(completion.tokens)
            if completion.first_step is None:
                completion.first_step = completion.step
        completion.run, completion.step, completion.val_loss = loaded.run, loaded.step, loaded.val_loss
        completion.is_average = loaded.is_average


def with_joined_texts(tokenizer: "Tokenizer", tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """Return the tokens with texts that concatenate to the decoded text, also where a character spans tokens."""
    from nanogpt.sampling.text import TextStream

    stream = TextStream()
    return tuple(dataclasses.replace(token, text=stream.feed(tokenizer.token_bytes(token.id))[0]) for token in tokens)


@lru_cache(maxsize=CACHED_MODELS)  # of a large vocabulary it takes 0.1 s and more
def fingerprint(tokenizer: "Tokenizer") -> str:
    """Return the fingerprint of a tokenizer (see `nanogpt.tokenizers.fingerprint`)."""
    from nanogpt import tokenizers

    return tokenizers.fingerprint(tokenizer)


def has_written(tokenizer: "Tokenizer", completion: Completion) -> bool:
    """Return whether a completion's tokens are of this tokenizer.

    A record of an earlier version does not name the tokenizer: there the text is compared. It may end before a stop
    string, and in U+FFFD in place of the beginning of a character.
    """
    tokens = tuple(completion.tokens)
    if completion.tokenizer or not tokens:
        return completion.tokenizer in ("", fingerprint(tokenizer))
    text = "".join(token.text for token in with_joined_texts(tokenizer, tokens))
    known = all(token.id < tokenizer.vocab_size for token in tokens)
    return known and text.startswith(completion.text.rstrip("\N{REPLACEMENT CHARACTER}"))
