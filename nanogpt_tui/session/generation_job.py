"""A take while it is written: in a thread of its own, with knobs that can be turned meanwhile. Knows no screen."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Event, Stopped, Token
from nanogpt.training import Save
from nanogpt_tui.session.completions import LIVE, Completion

if TYPE_CHECKING:
    from nanogpt.runs import LoadedModel
    from nanogpt_tui.session.session import Session

ALTERNATIVES = 8
MODELS_KEPT = 2
# After each token beside a training: three threads share the interpreter then, and keys would wait for two of them.
PAUSE_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsLoaded:
    """The weights are there. `kept` are the tokens that were there before, their texts as they read in a row."""

    run: str
    step: int
    val_loss: float | None
    device: str
    vocab_size: int
    kept: tuple[Token, ...]


class ModelCache:
    """Loads models in the workers' threads, and keeps those used last."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._loading = threading.Lock()
        self._kept: dict[tuple[str, int | None], LoadedModel] = {}  # (path, None) or (run, step); the newest last

    def load(self, completion: Completion, wanted: Callable[[], bool]) -> "LoadedModel":
        """The model that a take is to be written with. Where that was the live weights, those that it began with if
        they are still there, else the present ones.

        Raises `UserError`; also as soon as `wanted()` is false.
        """
        from nanogpt.runs import load_model
        from nanogpt.runs.checkpoints import locate

        source = completion.source
        if source.which == LIVE:
            key = (completion.run, completion.step)
            loaded = self._kept.get(key) or copy_live_weights(self._session, wanted)
            return self._keep((loaded.run, loaded.step), loaded)
        _, path = locate(source.run, source.which, self._session.runs_dir)
        with self._loading:  # two panes may ask for the same one
            key = (str(path), None)
            return self._keep(key, self._kept.get(key) or load_model(str(path)))

    def that_wrote(self, completion: Completion) -> "LoadedModel | None":
        """The very weights that wrote a take; None where they are others by now. Raises `UserError`."""
        if completion.source.which == LIVE:
            return self._kept.get((completion.run, completion.step))
        loaded = self.load(completion, lambda: True)
        return loaded if (loaded.run, loaded.step) == (completion.run, completion.step) else None

    def _keep(self, key: tuple[str, int | None], loaded: "LoadedModel") -> "LoadedModel":
        others = [(other, model) for other, model in self._kept.items() if other != key]
        self._kept = dict([*others, (key, loaded)][-MODELS_KEPT:])
        return loaded


def copy_live_weights(session: "Session", wanted: Callable[[], bool]) -> "LoadedModel":
    """The weights that are being trained, copied at the next step boundary; training goes on meanwhile."""
    from nanogpt.runs import LoadedModel
    from nanogpt.runs.load import load_tokenizer
    from nanogpt.training import Copy

    training, folder = session.training, session.folder
    if session.can_send and not session.is_training:
        return load_saved_weights(session, wanted)
    if not session.is_training or training is None or folder is None:
        raise UserError("no run is training: choose a checkpoint instead")
    answers: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
    training.commands.put(Copy(lambda model, step: answers.put((model, step))))
    while True:
        try:
            model, step = answers.get(timeout=0.1)
            break
        except queue.Empty:
            if training.done:
                raise UserError("the training has just ended: choose one of its checkpoints instead") from None
            if not wanted():
                raise UserError("stopped before the weights were loaded") from None
    device = str(next(model.parameters()).device)
    return LoadedModel(model, load_tokenizer(folder), folder.name, step, None, device)


def load_saved_weights(session: "Session", wanted: Callable[[], bool]) -> "LoadedModel":
    """The weights that another process trains: it saves a checkpoint, and that is read."""
    from nanogpt.runs import load_model

    session.send(Save())
    while session.client is not None and (session.client.pending or session.client.saving):
        time.sleep(0.1)
        if not wanted():
            raise UserError("stopped before the weights were loaded")
    if session.client is None or session.folder is None:
        raise UserError("the training has just ended: choose one of its checkpoints instead")
    return load_model(str(session.folder), "latest")


class GenerationJob:
    """Writes into `take` from now on, behind the tokens that it has. `changed(job)` is called in the interface's
    thread after each few tokens and at the end.

    `knobs()` is asked before each token; its `max_new_tokens` are to come, whatever is there.
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
        self._kept = tuple(completion.tokens)
        self._in_force = dataclasses.replace(knobs(), seed=completion.knobs.seed)
        self._asked = len(self._kept)
        self._opened_at = 0.0
        if self._kept and self._in_force != (completion.turns[-1][1] if completion.turns else completion.knobs):
            completion.turns.append((len(self._kept), self._in_force))
        completion.reason = completion.error = ""
        self._worker = session.work(self._work, self._receive, per_second=20, name="sample")

    @property
    def done(self) -> bool:
        return bool(self.completion.reason)

    def stop(self) -> None:
        """Ends it after the token that is being made; what is written stays."""
        self._worker.cancel()
        self._collect()
        self._end("esc")

    def _end(self, reason: str, error: str = "") -> None:
        if not self.completion.reason:
            self.completion.reason, self.completion.error = reason, error

    def _work(self) -> Iterator[WeightsLoaded | Event]:
        from nanogpt import sampling

        completion = self.completion
        loaded = self._models.load(completion, lambda: not self.done)
        kept = with_joined_texts(loaded.tokenizer, self._kept)
        yield WeightsLoaded(
            run=loaded.run,
            step=loaded.step,
            val_loss=loaded.val_loss,
            device=loaded.device,
            vocab_size=loaded.tokenizer.vocab_size,
            kept=kept,
        )
        ids = [token.id for token in kept]
        yield from sampling.generate(
            loaded.model, loaded.tokenizer, completion.prompt, self._turned, written=ids, alternatives=ALTERNATIVES
        )

    def _turned(self) -> SamplingConfig:
        """In the worker's thread, before each token: the knobs as they are now, noted where they were turned."""
        knobs = dataclasses.replace(self._knobs(), seed=self.completion.knobs.seed)
        if knobs != self._in_force:
            self._in_force = knobs
            self.completion.turns.append((self._asked, knobs))
        self._asked += 1
        if self._session.is_training:
            time.sleep(PAUSE_S)
        return dataclasses.replace(knobs, max_new_tokens=knobs.max_new_tokens + len(self._kept))

    def _receive(self) -> None:
        if self.done:  # stopped; what comes now was made after that, and perhaps another writes into the take already
            return
        self._collect()
        if self._worker.done and not self.done:
            self._end("esc" if self._worker.error is None else "error", self._worker.error or "")
        self._changed(self)

    def _collect(self) -> None:
        completion = self.completion
        for event in self._worker.take():
            match event:
                case WeightsLoaded():
                    completion.run, completion.step, completion.val_loss = event.run, event.step, event.val_loss
                    completion.device, completion.vocab_size = event.device, event.vocab_size
                    completion.tokens[:] = event.kept
                    self._opened_at = time.monotonic()
                case Token():
                    completion.tokens.append(event)
                    passed_s = time.monotonic() - self._opened_at
                    completion.tokens_per_second = (len(completion.tokens) - len(self._kept)) / max(passed_s, 1e-3)
                case Stopped():
                    completion.tokens_per_second = event.tokens_per_second
                    self._end(event.reason)


def with_joined_texts(tokenizer: Any, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """The tokens with their texts as they read one after the other, characters that span tokens included."""
    from nanogpt.sampling.text import TextStream

    stream = TextStream()
    return tuple(dataclasses.replace(token, text=stream.feed(tokenizer.token_bytes(token.id))[0]) for token in tokens)
