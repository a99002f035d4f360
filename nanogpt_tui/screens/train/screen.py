"""The Train screen: the run that is shown, and the keys that send commands to its trainer.

`run_view` has all panes of a run: the chart (`widgets/chart.py`), the `figures`, the `trends` in a large terminal, the
`samples_pane` and the log. `overlays` adds other runs to the chart. `compact` is the screen for a small terminal.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from nanogpt.errors import UserError
from nanogpt.training import Pause, Resume, Sample, Save, ScaleLearningRate, SetEvalInterval, SetMaxIters, Stop
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens import QUICK_START
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.text import escaped, unescaped
from nanogpt_tui.widgets.dialog import Ask, AskValue, Dialog
from nanogpt_tui.widgets.step_dialogs import ask_longer_run, ask_steps, parse_steps

if TYPE_CHECKING:
    from pathlib import Path

    from nanogpt.training.control import Command
    from nanogpt_tui.screens.train.run_view import RunView
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.workers import Worker

WELCOME = (
    ("{train.quick_start}", "quick start: prepares tiny Shakespeare and trains a small"),
    ("", "model on it for a minute, a character at a time. It writes"),
    ("", "words within seconds. Without a network it takes Python's"),
    ("", "own standard library instead."),
    ("", ""),
    ("{train.new_run}", "new run: every setting, with time and memory estimated"),
    ("{app.data}", "Data: other texts, and your own"),
    ("{app.runs}", "Runs: what was trained before"),
    ("{app.help}", "help: every key, and every word explained"),
    ("^p", "command palette: every command by name"),
    ("{app.quit}", "quit"),
)
WELCOME_CHANGES = 6  # its first lines, which a read-only session leaves out
STOP_ANSWERS = {
    "save": ("s", "checkpoint and stop"),
    "stop": ("w", "stop now, losing {unsaved}"),
    "stay": ("escape", "keep training"),
}
QUICK_START_ANSWERS = {"start": ("enter", "start"), "stay": ("escape", "back")}
TRIM_TOOLTIP = "Show the whole range of the loss, or zoom in on its recent part"
UNIT_TOOLTIP = "The loss in nats per token, as perplexity, bits per character or bits per byte"
SPIKE_TOOLTIP = "The report of the spike at the crosshair, or of the newest"
WHILE_TRAINING = {"pause", "save", "stop", "sample", "sample_prompt", "scale", "eval_interval", "max_iters"}
PANES = ("chart", "figures", "watch", "log")
WITH_A_RUN = {
    "health",
    "spike",
    "look",
    "copy",
    "chart",
    "loss_unit",
    "overlay",
    "earlier_sample",
    "scroll_sample",
    "full",
}


class TrainScreen(LabScreen):
    """Chart, figures, samples and log of a run; without a run, a welcome text."""

    CSS_PATH = "train.tcss"
    AUTO_FOCUS = ""
    HELP = (
        "The run that is training now, or the last one that you opened. The chart shows the training loss, "
        "its smoothed line over the raw band, and the validation loss where it was measured. Tab goes to the "
        "figures; {app.help} explains the one that is chosen there, or under the mouse."
    )
    MOUSE = (
        "On the chart, the wheel zooms, dragging moves along it, a click sets the crosshair and a double click shows "
        "the whole run. The wheel scrolls the sample and the log"
    )
    WRITES = frozenset({*WHILE_TRAINING, "quick_start", "resume_run", "new_run"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "pause", id="train.pause", tooltip="Pause or resume at the next step"),
        Binding("s", "save", "save", id="train.save", tooltip="Save a checkpoint now"),
        Binding("x", "stop", "stop", id="train.stop", tooltip="Stop; asks whether to save"),
        Binding("r", "resume_run", "resume", id="train.resume", tooltip="Resume from the latest checkpoint"),
        Binding("t", "sample", "sample", id="train.sample", tooltip="Sample the current weights into “watch it learn”"),
        Binding("n", "new_run", "new run", id="train.new_run", tooltip="Set up a new run"),
        Binding("o", "overlay", "overlay", id="train.overlay", tooltip="Overlay the losses of other runs"),
        Binding("l", "chart('toggle_log_y')", "log-y", id="train.log_y"),
        Binding(
            "a",
            "chart('next_x_axis')",
            "x axis",
            id="train.x_axis",
            tooltip="The x axis by step, tokens, time or FLOPs",
        ),
        Binding("L", "loss_unit", "loss unit", id="train.loss_unit", show=False, tooltip=UNIT_TOOLTIP),
        Binding("h", "health", "layers", id="train.health", tooltip="The health of each layer, as it learns"),
        Binding("exclamation_mark", "spike", "spike", id="train.spike", tooltip=SPIKE_TOOLTIP),
        Binding("I", "look", "look inside", id="train.look", tooltip="Attention, predictions and embeddings of a text"),
        Binding("v", "full('log')", "log", id="train.panel", tooltip="The whole log / back"),
        Binding("T", "sample_prompt", "sample your own prompt", id="train.sample_prompt", show=False),
        Binding("plus", "scale(1.25)", "lr", id="train.lr_up", tooltip="Learning rate × 1.25"),
        Binding("minus", "scale(0.8)", "lr", id="train.lr_down", tooltip="Learning rate × 0.8"),
        Binding("equals_sign", "scale(1.25)", "lr", show=False, id="train.lr_up_too", tooltip="Learning rate × 1.25"),
        Binding("E", "eval_interval", "eval interval", id="train.eval_interval"),
        Binding("m", "max_iters", "change length", id="train.max_iters"),
        Binding("enter,g", "quick_start", "quick start", id="train.quick_start", tooltip=QUICK_START),
        Binding(
            "right_square_bracket", "chart('zoom', 0.5)", "zoom", id="train.zoom_in", show=False, tooltip="Zoom in"
        ),
        Binding("left_square_bracket", "chart('zoom', 2)", "zoom", id="train.zoom_out", show=False, tooltip="Zoom out"),
        Binding("0", "chart('reset_view')", "whole run", id="train.reset_view", show=False),
        Binding(
            "left",
            "chart('move_cursor', -1)",
            "crosshair",
            id="train.cursor_left",
            show=False,
            tooltip="Crosshair left",
        ),
        Binding(
            "right",
            "chart('move_cursor', 1)",
            "crosshair",
            id="train.cursor_right",
            show=False,
            tooltip="Crosshair right",
        ),
        Binding("shift+left", "chart('pan', -0.25)", "pan left", id="train.pan_left", show=False),
        Binding("shift+right", "chart('pan', 0.25)", "pan right", id="train.pan_right", show=False),
        Binding("home", "chart('cursor_start')", "crosshair to the start", id="train.cursor_start", show=False),
        Binding("end", "chart('cursor_end')", "crosshair to the end", id="train.cursor_end", show=False),
        Binding("f", "full", "full screen", id="train.full", show=False, tooltip="The focused pane alone / back"),
        Binding("escape", "back", "back", id="train.cursor_hide", show=False, tooltip="Leave full screen or crosshair"),
        Binding("z", "chart('next_smoothing')", "smoothing", id="train.smoothing", show=False),
        Binding("b", "chart('toggle_raw')", "raw band", id="train.raw", show=False),
        Binding("y", "copy", "copy", id="train.copy", show=False, tooltip="Copy its path or its command"),
        Binding("Y", "chart('toggle_trim')", "whole height", id="train.trim", show=False, tooltip=TRIM_TOOLTIP),
        Binding("comma", "earlier_sample(-1)", "samples", id="train.earlier", show=False, tooltip="Earlier sample"),
        Binding("full_stop", "earlier_sample(1)", "samples", id="train.later", show=False, tooltip="Later sample"),
        Binding("pagedown", "scroll_sample(1)", "scroll the sample", id="train.scroll_down", show=False),
        Binding("pageup", "scroll_sample(-1)", "scroll the sample back", id="train.scroll_up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.run_view: RunView | None = None  # made with the first run: it imports numpy
        self._is_building = False
        self._quick_starting: Worker[None] | None = None
        self._key_state: tuple[object, ...] = ()

    def body(self) -> Iterator[Widget]:
        with Vertical(id="empty"):
            yield Static(self._welcome(), id="welcome")

    def _welcome(self) -> Content:
        shown = WELCOME[WELCOME_CHANGES:] if self.session.readonly else WELCOME
        keyed = [(with_keys(key, self.app), words) for key, words in shown]
        width = max(len(key) for key, _ in keyed)
        lines = [Content.assemble((f"{key:>{width}}", "bold $accent"), f"   {words}") for key, words in keyed]
        return Content("\n").join(["Nothing has been trained here yet.", "", *lines])

    def training_changed(self) -> None:
        history = self.session.history
        self.set_class(history is None and self.session.discovered, "-empty")
        known = history and (
            history.phase,
            history.started is None,
            history.reading is None,
            bool(history.saves),
            history.has_layer_health,
            bool(history.spikes),
            *self._has_content(history),
        )
        key_state = (known, self.session.can_send, self.session.is_alive)
        if key_state != self._key_state:  # other keys have an effect now
            self._key_state = key_state
            self.refresh_bindings()
        if history is None:
            return
        if self.run_view is not None:
            self.run_view.show(history, self._waiting())
        elif not self._is_building:
            self._is_building = True
            self.call_later(self._build)

    async def _build(self) -> None:
        from nanogpt_tui.screens.train.run_view import RunView

        view = RunView(self.lab.settings.glyphs, self.lab.settings.loss_unit)
        await self.query_one("#body").mount(view)
        self.run_view = view
        self.training_changed()

    def _has_content(self, history: "History") -> tuple[bool, bool, bool]:
        """Return whether the run has a curve, a sample, and more than one sample."""
        return len(history) > 0, bool(history.samples), len(history.samples) > 1

    def settings_changed(self) -> None:
        for welcome in self.query("#welcome").results(Static):
            welcome.update(self._welcome())
        if self.run_view is not None:
            self.run_view.set_glyphs(self.lab.settings.glyphs)
            self.run_view.chart.unit = self.lab.settings.loss_unit
            self.training_changed()

    def _waiting(self) -> str:
        """Return what the trainer was asked to do and has not done yet, or ""."""
        client, history = self.session.client, self.session.history
        if client is not None and (waiting := client.waiting):
            return f"{waiting[-1].pending} …"
        if client is not None and client.saving:
            return "saving …"
        return "reading" if history is not None and history.reading is not None else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not super().check_action(action, parameters):
            return False
        history = self.session.history
        if action == "stop" and self.session.is_preparing:
            return self.session.can_stop_preparing and not self.session.readonly
        if action in WHILE_TRAINING:
            return self.session.can_send and history is not None and history.phase != "preparing"
        if action in WITH_A_RUN:
            if history is None:
                return False
            curve, sample, samples = self._has_content(history)
            shown = {
                "health": history.has_layer_health,
                "spike": bool(history.spikes),
                "look": self.session.is_training or bool(history.saves),
                "chart": curve,
                "loss_unit": curve,
                "scroll_sample": sample,
                "earlier_sample": samples,
            }
            return shown.get(action, True)
        idle = not self.session.is_alive
        if action == "quick_start":
            return idle
        if action == "resume_run":
            return idle and history is not None and (bool(history.saves) or history.phase == "interrupted")
        return True

    # ---- commands to the trainer

    def send(self, command: "Command") -> None:
        """Send a command to the trainer of the run that is shown; notify if it cannot be reached."""

        def show(error: str) -> None:
            if error:
                self.notify(error, severity="error", markup=False)
            self.training_changed()

        self.session.post(command, show)

    def ask(self, dialog: Dialog[str | None], act: Callable[[str], None]) -> None:
        """Ask a question about the run that is shown. Call `act` with the answer if that run is still shown then."""
        history, folder = self.session.history, self.session.folder

        def answer(text: str | None) -> None:
            # another history is of the same run if that is followed anew, another folder if it was renamed
            is_other = self.session.history is not history and self.session.folder != folder
            if text is not None and is_other:
                self.notify("another run is shown now: nothing was sent", severity="error", markup=False)
            elif text is not None:
                act(text)

        self.app.push_screen(dialog, answer)

    def action_quick_start(self) -> None:
        """Start the quick start; ask first if a run is shown, since enter and g are easily pressed by mistake."""
        if self.session.history is None or self.session.history.started is None:
            self._quick_start("start")
        else:
            self.app.push_screen(Ask(f"{QUICK_START}?", QUICK_START_ANSWERS), self._quick_start)

    def _quick_start(self, answer: str | None) -> None:
        if answer != "start" or (self._quick_starting is not None and not self._quick_starting.done):
            return
        session, changes = self.session, self.lab.settings.quickstart

        def begin(folder: "Path | None", error: str) -> None:
            if folder is not None:
                try:
                    session.quick_start(changes, folder)
                except UserError as problem:
                    error = str(problem)
            if error:
                self.notify(error, severity="error", markup=False)

        self._quick_starting = session.fetch(
            lambda: session.quick_start_folder(changes), begin, "quick start", answers_key=True
        )

    def action_new_run(self) -> None:
        self.lab.new_run()

    def action_pause(self) -> None:
        """Send the opposite of what was asked for last, or else of what the run does."""
        client, history = self.session.client, self.session.history
        is_paused = history is not None and history.run_state.paused
        for command in client.waiting if client is not None else ():
            if isinstance(command, Pause | Resume):
                is_paused = isinstance(command, Pause)
        self.send(Resume() if is_paused else Pause())

    def action_save(self) -> None:
        self.send(Save())

    def action_sample(self) -> None:
        history = self.session.history
        known = history.samples[-1] if history is not None and history.samples else None
        # in earlier versions a seed could be any number
        self.send(Sample(known.prompt, known.seed % 2**63) if known else Sample(""))

    def action_sample_prompt(self) -> None:
        history = self.session.history
        known = history.samples[-1].prompt if history is not None and history.samples else ""
        about = "Sample the current weights from this prompt (\\n is a line break, \\\\ a backslash):"
        self.ask(AskValue(about, escaped(known), lambda _: ""), lambda text: self.send(Sample(unescaped(text))))

    def action_stop(self) -> None:
        history = self.session.history
        if self.session.is_preparing:
            self.ask(Ask("Stop preparing?", {"stop": ("w", "stop before the first step")}), self._stop_as)
        elif history is not None:
            answers = {each: (key, text.format(unsaved=history.unsaved)) for each, (key, text) in STOP_ANSWERS.items()}
            self.ask(Ask("Stop training?", answers), self._stop_as)

    def _stop_as(self, answer: str) -> None:
        if answer == "stop" and self.session.can_stop_preparing:
            self.session.stop_training()
        elif answer in ("save", "stop"):
            self.send(Stop(save=answer == "save"))

    def action_scale(self, factor: float) -> None:
        self.send(ScaleLearningRate(factor))

    def action_eval_interval(self) -> None:
        client = self.session.client
        if client is not None:
            question = ask_steps("Steps between evaluations:", client.eval_interval or None)
            self.ask(question, lambda text: self.send(SetEvalInterval(parse_steps(text))))

    def action_max_iters(self) -> None:
        history = self.session.history
        if history is not None:
            question = ask_steps("Train up to step:", history.max_iters)
            self.ask(question, lambda text: self.send(SetMaxIters(parse_steps(text))))

    def action_resume_run(self) -> None:
        history, folder = self.session.history, self.session.folder
        if history is None or folder is None:
            return
        if history.run_state.state == "finished" and history.step >= history.max_iters:
            self.ask(
                ask_longer_run(history.run, history.step, history.max_iters),
                lambda text: self._resume({"max_iters": parse_steps(text)}),
            )
        else:
            self._resume({})

    def _resume(self, changes: dict[str, int]) -> None:
        if self.session.folder is not None:
            self.session.resume(self.session.folder, changes)

    # ---- views

    def action_chart(self, action: str, *parameters: Any) -> None:
        if self.run_view is not None:
            getattr(self.run_view.chart, f"action_{action}")(*parameters)
            self.training_changed()  # the figure of the loss depends on the smoothing

    def action_loss_unit(self) -> None:
        """Show the losses in the next unit, also in later sessions."""
        if self.run_view is not None:
            self.run_view.chart.action_next_unit()
            self.lab.set_preference("loss_unit", self.run_view.chart.unit)

    def action_health(self) -> None:
        """Show the layers of the run."""
        self.lab.health()

    def action_spike(self) -> None:
        """Show the report of the spike at the crosshair, or of the newest one."""
        from nanogpt_tui.screens.train.spike_report import SpikeReport, nearest_spike

        history, view = self.session.history, self.run_view
        if history is not None and view is not None and history.spikes:
            self.app.push_screen(SpikeReport(history, nearest_spike(history.spikes, view.chart.cursor)))

    def action_look(self) -> None:
        """Look inside the live weights if the run is training here, else inside its latest checkpoint."""
        from nanogpt_tui.session.completions import LIVE, Source

        folder = self.session.folder
        if folder is not None:
            self.lab.look(Source(None, LIVE) if self.session.is_training else Source(str(folder), "latest"))

    def action_copy(self) -> None:
        if self.session.folder is not None:
            from nanogpt_tui.widgets import copy_menu  # which reads runs, and is not needed for the first picture

            copy_menu.ask_copy_run(self.lab, self.session.folder)

    def action_earlier_sample(self, by: int) -> None:
        if self.run_view is not None:
            self.run_view.samples.move(by)

    def action_scroll_sample(self, pages: int) -> None:
        if self.run_view is not None:
            self.run_view.samples.scroll_text(pages)

    def action_full(self, pane: str = "") -> None:
        """Show one pane alone, by default the focused one or else the chart; the second time, show all again."""
        alone = [name for name in PANES if self.has_class(f"-full-{name}")]
        self.remove_class(*(f"-full-{name}" for name in PANES))
        within = {node.id for node in self.focused.ancestors_with_self} if self.focused is not None else set()
        wanted = pane or next((name for name in PANES if name in within), "chart")
        if not alone or (pane and pane not in alone):
            self.add_class(f"-full-{wanted}")

    def action_back(self) -> None:
        if any(self.has_class(f"-full-{name}") for name in PANES):
            self.remove_class(*(f"-full-{name}" for name in PANES))
        else:
            self.action_chart("hide_cursor")

    def on_loss_chart_cursor_moved(self, message: Any) -> None:
        if self.run_view is not None and message.step is not None:
            self.run_view.samples.move_to_step(message.step)

    def action_overlay(self) -> None:
        from nanogpt_tui.screens.train.overlays import PickRuns

        view = self.run_view
        if view is not None:
            own = self.session.folder.name if self.session.folder else ""
            self.app.push_screen(PickRuns(self.session, own, view.chart.overlays), self._overlay)

    def _overlay(self, names: list[str] | None) -> None:
        """Overlay the losses of the chosen runs; None leaves them as they are."""
        if names is None or self.run_view is None:
            return
        from nanogpt_tui.screens.train.overlays import set_overlays

        set_overlays(self.session, self.run_view.chart, names)
