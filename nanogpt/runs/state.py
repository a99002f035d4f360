"""The state of a run, and the function that updates it: `state = reduce(state, event)`. Imports no torch.

The recorder writes it to `status.json`. The commands and all screens read it, so that they cannot disagree.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from nanogpt.events import (
    Acknowledged,
    Evaluated,
    Evaluating,
    Event,
    Finished,
    GradientNoise,
    Health,
    LayerProblem,
    Notice,
    Sampled,
    Saved,
    Started,
    Status,
    Step,
)
from nanogpt.inspection.layer_problems import describe, subject
from nanogpt.loss_units import UNITS, LossUnit, TextSize, convert

_STATUS_FIELDS = ("state", "step", "paused", "waiting", "evaluating", "message", "silent_s", "pid", "host")

SLOW_S = 15.0  # without a heartbeat, which is written every second, a run is "silent"
ALIVE = ("running", "paused")
STATES = ("preparing", *ALIVE, "finished", "stopped", "failed", "interrupted")
_IN_STEPS: dict[str, Any] = {"paused": False, "waiting": "", "evaluating": None}  # while training takes steps
ENDS = {"nan": "failed", "stopped": "stopped"}  # by the reason of `Finished`; any other is "finished"


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run.

    `state` is one of STATES, "interrupted" if the trainer ended without a message. Screens show the finer `phase`. A
    `status.json` of an earlier version has no `paused`, `waiting`, `evaluating` and `since`: in it, `state` is "paused"
    for both `paused` and `waiting`.

    `paused` is set by a command; `waiting` is why training waits for the disk; `evaluating` is the finished part of an
    evaluation (0..1), None without one. Losses are in nats per token; `ema_val_loss` is of the averaged weights, None
    without them. `noise_scale` is the gradient noise scale in sequences, None if it is not known. `problems` has a
    sentence for each present problem of a layer. `since` is when this training started and `updated` when the trainer
    last wrote, by its own clock (seconds since 1970); `silent_s` is the time since its last heartbeat, in seconds, when
    the state was read. `val_characters` and `val_bytes` are the size of the text of the validation split, 0 in a run of
    an earlier version.
    """

    name: str = ""
    path: str = ""
    state: str = "preparing"
    step: int = 0
    max_iters: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    eta_s: float | None = None
    elapsed_s: float | None = None
    n_parameters: int | None = None
    dataset: str = ""
    device: str = ""
    dtype: str = ""
    message: str = ""
    since: float = 0.0
    updated: float = 0.0
    pid: int = 0
    host: str = ""
    silent_s: float = 0.0
    paused: bool = False
    waiting: str = ""
    evaluating: float | None = None
    ema_val_loss: float | None = None
    noise_scale: float | None = None
    val_tokens: int = 0
    val_characters: int = 0
    val_bytes: int = 0
    problems: tuple[str, ...] = ()

    @property
    def val_text(self) -> TextSize | None:
        """The size of the text of the validation split; None if it is not known."""
        if not (self.val_tokens and self.val_characters and self.val_bytes):
            return None
        return TextSize(self.val_tokens, self.val_characters, self.val_bytes)

    def val_loss_in(self, unit: LossUnit) -> float | None:
        """Return the last validation loss in a unit; None if it is not known."""
        return convert(self.val_loss, unit, self.val_text)

    def best_val_loss_in(self, unit: LossUnit) -> float | None:
        """Return the best validation loss in a unit; None if it is not known."""
        return convert(self.best_val_loss, unit, self.val_text)

    @property
    def alive(self) -> bool:
        """Whether the run is being trained."""
        return self.state in ALIVE

    @property
    def phase(self) -> str:
        """The word that screens show: while the run is trained "training", "evaluating", "paused", "waiting" (for the
        disk) or "silent" (no heartbeat for more than SLOW_S), otherwise `state`."""
        if not self.alive:
            return self.state
        if self.silent_s > SLOW_S:
            return "silent"
        if self.paused:
            return "paused"
        if self.waiting:
            return "waiting"
        return "training" if self.evaluating is None else "evaluating"

    @property
    def share(self) -> float:
        """The part of the steps that is done, 0..1."""
        return min(1.0, self.step / self.max_iters) if self.max_iters else 0.0


def state_to_dict(state: RunState) -> dict[str, Any]:
    """Return the state as a dictionary for JSON, with its phase and the validation losses in all units."""
    losses: dict[str, float | None] = {}
    for unit in UNITS[1:]:
        name = unit.replace(" ", "_")
        losses |= {f"val_{name}": state.val_loss_in(unit), f"best_val_{name}": state.best_val_loss_in(unit)}
    return asdict(state) | losses | {"phase": state.phase}


def status_event(state: RunState) -> Status:
    """Return the state as an event."""
    return Status(
        time=state.updated,
        run=state.name,
        path=state.path,
        phase=state.phase,
        **{name: getattr(state, name) for name in _STATUS_FIELDS},
    )


def reduce(state: RunState, event: Event) -> RunState:
    """Return the state after `event`. Of consecutive `Step` events only the last is needed."""
    match event:
        case Status():
            return _apply_status(state, event)
        case Notice():
            return state
        case Started():
            state = replace(
                state,
                name=state.name or event.run,
                state="running",
                since=event.time,
                step=event.step,
                max_iters=event.max_iters,
                n_parameters=event.n_parameters,
                device=event.device,
                dtype=event.dtype,
                val_tokens=event.val_tokens,
                val_characters=event.val_characters,
                val_bytes=event.val_bytes,
                train_loss=None,
                tokens_per_second=None,
                mfu=None,
                eta_s=None,
                problems=(),
                message=state.message if state.alive else "",  # the reason of a rollback
                **_IN_STEPS,
            )
        case Step():
            state = replace(
                state,
                step=event.step,
                train_loss=None if math.isnan(event.loss) else event.loss,
                tokens_per_second=event.tokens_per_second,
                mfu=event.mfu,
                eta_s=event.eta_s,
                elapsed_s=event.elapsed_s,
                **_IN_STEPS,
            )
        case Evaluating():
            state = replace(state, step=event.step, evaluating=event.done / max(1, event.total))
        case Evaluated():
            state = replace(
                state,
                step=event.step,
                train_loss=event.train_loss,
                val_loss=event.val_loss,
                best_val_loss=event.best_val_loss,
                ema_val_loss=event.ema_val_loss,
                n_parameters=state.n_parameters if event.n_parameters is None else event.n_parameters,
                elapsed_s=event.elapsed_s,
                message="",
                evaluating=None,
            )
        case Acknowledged():
            paused = {"Pause": True, "Resume": False, "Stop": False}.get(event.command, state.paused)
            limit = state.max_iters if event.max_iters is None else event.max_iters
            state = replace(state, step=event.step, paused=paused, max_iters=limit)
        case Health():
            waiting = {"waiting": event.message, "going on": ""}.get(event.state, state.waiting)
            message = "" if event.state == "going on" else event.message
            state = replace(state, step=event.step, waiting=waiting, message=message)
        case LayerProblem():
            others = tuple(text for text in state.problems if not text.startswith(subject(event)))
            state = replace(state, problems=others if event.over else (*others, describe(event)))
        case GradientNoise():
            state = replace(state, noise_scale=event.noise_scale)
        case Saved() | Sampled():  # a checkpoint may be written while later steps are done
            state = replace(state, step=max(state.step, event.step))
        case Finished():
            return replace(
                state,
                state=ENDS.get(event.reason, "finished"),
                step=event.step,
                train_loss=state.train_loss if event.train_loss is None else event.train_loss,
                val_loss=state.val_loss if event.val_loss is None else event.val_loss,
                best_val_loss=state.best_val_loss if event.best_val_loss is None else event.best_val_loss,
                message="" if state.waiting else state.message,  # which says that it resumes by itself
                elapsed_s=event.elapsed_s,
                updated=event.time,
                silent_s=0.0,
                **_IN_STEPS,
            )
        case _:  # of the preparation of the data
            return state
    is_held = state.paused or state.waiting
    return replace(state, state="paused" if is_held else "running", updated=event.time, silent_s=0.0)


def _apply_status(state: RunState, event: Status) -> RunState:
    """Return the state with what only the folder shows: a new name, a trainer that is silent, gone or has failed.

    A folder may be copied file by file, and a network disk may show an old file. So a status does not undo the effect
    of a later event, and a status from before this training does not end it.
    """
    state = replace(state, name=event.run, path=event.path, pid=event.pid, host=event.host)
    if event.time >= state.updated:
        return replace(state, **{name: getattr(event, name) for name in _STATUS_FIELDS})
    if not state.alive:
        return state
    if event.state == "interrupted" or (event.state not in ALIVE and event.time >= state.since):
        return replace(state, state=event.state, message=event.message)
    return replace(state, silent_s=event.silent_s)
