"""The app: modes, global keys, settings, and how it quits. Screens show the session's state."""

import asyncio
import os
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.filter import LineFilter
from textual.geometry import Size
from textual.screen import ModalScreen, Screen
from textual.widget import AwaitMount, Widget

from nanogpt.errors import UserError
from nanogpt.formatting import printable
from nanogpt_tui import screens, theme
from nanogpt_tui.keys import check_keymap, complete_keymap, key_label, merged_keymap
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.train.compact import FULL_SIZE, CompactScreen, fits
from nanogpt_tui.session.alerts import Alerts
from nanogpt_tui.session.messages import ThrottledUpdate
from nanogpt_tui.session.session import Session
from nanogpt_tui.session.workers import log_exception
from nanogpt_tui.settings import Settings, load, save, with_changes
from nanogpt_tui.terminal import daemonize
from nanogpt_tui.terminal.ascii import KEY_NAMES, AsciiFilter
from nanogpt_tui.terminal.terminal_app import TerminalApp
from nanogpt_tui.widgets.dialog import Ask
from nanogpt_tui.widgets.header import Header
from nanogpt_tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from nanogpt.data.catalog import DatasetInfo
    from nanogpt_tui.session.completions import Source
    from nanogpt_tui.widgets.palette import PaletteCommand

TERMINAL_POLL_S = 1.0  # how often to check whether the terminal was closed
DISCOVERY_INTERVAL_S = 2.0  # for other runs that are training


def takes_text(widget: Widget | None) -> bool:
    """Return whether a letter that is typed goes into this widget."""
    return widget is not None and widget.check_consume_key("a", "a")


class LabApp(TerminalApp):
    """One session: five modes over one `Session`."""

    TITLE = "nanogpt"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, object]] = {mode: screens.make(mode) for mode in screens.MODES}  # type: ignore[assignment]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"switch_mode('{mode}')", title, show=False, id=f"app.{mode}")
            for mode, (key, title) in screens.MODES.items()
        ),
        Binding("question_mark,f1", "help", "help", show=False, id="app.help"),
        Binding("f2", "preferences", "settings", show=False, id="app.preferences", tooltip="Colours, glyphs, keys"),
        Binding(
            "f3", "traffic", "traffic", show=False, id="app.traffic", tooltip="Bytes per second sent to the terminal"
        ),
        Binding("ctrl+l", "redraw", "redraw", show=False, id="app.redraw", tooltip="Redraw the whole screen"),
        Binding(
            "ctrl+z",
            "suspend_process",
            "suspend",
            show=False,
            priority=True,
            id="app.suspend",
            tooltip="Back to the shell while training continues; fg returns",
        ),
        Binding("q,ctrl+q", "quit", "quit", show=False, id="app.quit"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(
        self, settings: Settings, runs_dir: str | None = None, watched: Path | None = None, readonly: bool = False
    ) -> None:
        """`watched` is the folder of the run to show first; by default that is one that is training, else the newest.
        With `readonly`, nothing can be started, controlled, written or deleted."""
        self.settings, self._ascii_filter = settings, AsciiFilter()
        self.crash_message = ""  # one line to print after an error of the app itself
        self.detached = False  # whether the training continues after the app has ended
        super().__init__()
        rate = settings.repaint_rate
        self.session = Session(self, self.training_changed, runs_dir=runs_dir, per_second=rate, readonly=readonly)
        self._watched = watched
        self._alerts = Alerts()

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, self._ascii_filter] if self.settings.glyphs == "ascii" else filters

    def get_key_display(self, binding: Binding) -> str:
        text = super().get_key_display(binding)
        if self.settings.glyphs == "ascii":
            for glyph, name in KEY_NAMES.items():
                text = text.replace(glyph, name)
        return text

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.DEFAULTS

    def on_mount(self) -> None:
        for each in theme.THEMES:
            self.register_theme(each)
        self.apply_settings(self.settings)
        self.switch_mode("train")
        self.call_after_refresh(self.fit)
        self.call_after_refresh(self._show_first_run)
        self.set_interval(DISCOVERY_INTERVAL_S, self.session.discover_runs)
        self._handle_signals()

    def on_resize(self, event: Resize) -> None:
        self.fit(event.size)

    def fit(self, size: Size | None = None) -> None:
        """Show the compact screen on top while the terminal, now of `size`, is too small for the other screens."""
        if not self.screen_stack or self.current_mode == "_default":
            return
        is_large = fits(size or self.size, FULL_SIZE)
        if not is_large and not any(isinstance(screen, CompactScreen) for screen in self.screen_stack):
            self.push_screen(CompactScreen())
        elif is_large and isinstance(self.screen, CompactScreen):
            self.pop_screen()

    @property
    def _background_screens(self) -> list[Screen[Any]]:
        """The screens below the top one that are laid out again after a resize. Those below the compact screen are not:
        the terminal is too small for their layout."""
        for index, screen in enumerate(self._screen_stack):
            if isinstance(screen, CompactScreen):
                return list(self._screen_stack[index:-1])
        return super()._background_screens

    def _show_first_run(self) -> None:
        if not self.session.is_alive:
            self.session.show_run(self._watched)

    def _handle_signals(self) -> None:
        """On SIGTERM and SIGINT, exit in order; the training is then saved. When the terminal is closed, exit but let
        the training continue."""
        if self.is_headless or not hasattr(signal, "SIGHUP"):
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            daemonize.on_signal(number, loop, lambda: self.exit(0))
        daemonize.on_signal(signal.SIGHUP, loop, self.terminal_closed)
        if os.isatty(0):
            self.set_interval(TERMINAL_POLL_S, self._check_terminal)

    def _check_terminal(self) -> None:
        if daemonize.is_orphaned():
            self.exit(0)
        elif daemonize.is_terminal_closed():
            self._detach()

    def terminal_closed(self) -> None:
        """Exit and let the training continue, unless the supervisor was killed."""
        # Later, because the terminal of a killed supervisor closes before `is_orphaned` is True.
        asyncio.get_running_loop().call_later(0.1, self._detach)

    def _detach(self) -> None:
        self.detached = not daemonize.is_orphaned()
        self.exit(0)

    def handle_thread_error(self, error: Exception, vital: bool) -> None:
        """Log an error that ended a thread, in that thread. End the app if the thread was a `vital` part of it."""
        self._log_crash(error)
        if vital and self._loop is not None:
            self._loop.call_soon_threadsafe(self.exit, 1)

    def _handle_exception(self, error: Exception) -> None:
        """Log an error of the interface; then Textual ends the app."""
        self._log_crash(error)
        super()._handle_exception(error)

    def _log_crash(self, error: Exception) -> None:
        line = log_exception(error)
        self.crash_message = self.crash_message or line  # the first error causes the others

    def on_throttled_update(self, message: ThrottledUpdate) -> None:
        if self.is_running:  # while it shuts down, the screens lose their widgets one after another
            message.throttle.fire()

    def training_changed(self) -> None:
        """Show the state of the training on the screen in front. The other screens update when they are shown."""
        for alert in self._alerts.new_alerts(self.session.history):
            if self.settings.notifications != "off":
                self.send_notification(alert, self.settings.notifications)
        front = next((screen for screen in reversed(self.screen_stack) if isinstance(screen, LabScreen)), None)
        if front is not None and front.is_whole:
            front.show_training()

    def is_ready(self) -> bool:
        return not (self.session.answering or (isinstance(self.screen, LabScreen) and self.screen.is_reading))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable all actions while the preferences wait for a key, and most of them on the compact screen."""
        front = self.screen if self.screen_stack else None
        if getattr(front, "awaits_a_key", False) or (isinstance(front, CompactScreen) and not front.allows(action)):
            return False
        return super().check_action(action, parameters)

    def action_help(self) -> None:
        from nanogpt_tui.widgets.help import Help, help_for

        if not isinstance(self.screen, Help):
            self.push_screen(help_for(self.screen, self.focused or self.mouse_over))

    async def action_quit(self) -> None:
        if isinstance(self.screen, Ask):
            return
        other_work = self._unsaved_work()
        if self.session.is_starting:
            question = f"A training process is still starting. {other_work}".rstrip()
            self.push_screen(Ask(question, STARTING_ANSWERS), self._quit_as)
        elif self.session.is_training:
            unsaved = self.session.history.unsaved if self.session.history else "the run"
            answers = {
                name: (key, text.format(unsaved=unsaved))
                for name, (key, text) in QUIT_ANSWERS.items()
                if name != "detach" or daemonize.can_detach() or self.is_web
            }
            self.push_screen(Ask(f"A run is training. {other_work}".rstrip(), answers), self._quit_as)
        elif other_work:
            self.push_screen(Ask(other_work, UNSAVED_ANSWERS), self._quit_as)
        elif isinstance(self.screen, CompactScreen) and takes_text(self.screen_stack[-2].focused):
            self.push_screen(Ask("Quit?", QUIT_OR_STAY), self._quit_as)
        else:
            self.exit(0)

    def _unsaved_work(self) -> str:
        """Return what the app would lose if it ended now, besides a training, as a sentence; "" if nothing."""
        screens = (screen for stack in self._screen_stacks.values() for screen in stack)
        unsaved = [each.unsaved for each in screens if isinstance(each, LabScreen) and each.unsaved]
        return " ".join([*(["A data set is being prepared."] if self.session.is_preparing_data else []), *unsaved])

    async def action_interrupt(self) -> None:
        """Handle Ctrl+C: copy the selection if there is one, ask while a run is training, else say how to quit."""
        typing = takes_text(self.focused)
        if self.screen.get_selected_text() or (typing and self.focused.selected_text):  # type: ignore[union-attr]
            raise SkipAction
        if isinstance(self.screen, ModalScreen):
            self.notify("Esc closes this window", markup=False)
        elif self.session.is_training or self.session.is_starting:
            await self.action_quit()
        else:
            self.notify(f"{key_label('app.quit', self, typing=typing)} quits", markup=False)

    def action_suspend_process(self) -> None:
        if daemonize.can_detach():
            super().action_suspend_process()
        else:
            self.notify("cannot suspend here: no other process holds the terminal", markup=False)

    @property
    def suspend_message(self) -> str:
        run = self.session.history.run if self.session.history and self.session.is_training else ""
        state = f"{printable(run)} is still training" if run else "suspended"
        return f"nanogpt-tui: {state}; fg returns to the app"

    def suspend_failed(self) -> None:
        self.notify("there is no shell to return to", markup=False)

    def _quit_as(self, answer: str | None) -> None:
        if answer in ("detach", "quit") or (answer in ("save", "stop") and self.session.is_preparing):
            self.detached = answer == "detach"
            self.exit(0)
            return
        if answer not in ("save", "stop"):
            return
        from nanogpt.training import Stop

        self.session.send(Stop(save=answer == "save"))
        self.notify("saving a checkpoint, then quitting" if answer == "save" else "stopping")
        self._quit_when_done(saves=answer == "save")

    def _quit_when_done(self, saves: bool) -> None:
        """Exit once the training has ended, but stay if `saves` is set and no checkpoint could be written."""
        if self.session.is_training:
            self.set_timer(0.05, lambda: self._quit_when_done(saves))
        elif saves and (problem := self.session.save_problem):
            self.notify(problem, severity="error", markup=False)
        else:
            self.exit(0)

    def action_command_palette(self) -> None:
        from nanogpt_tui.palette_commands import list_items, screen_commands
        from nanogpt_tui.widgets.palette import Palette

        if not isinstance(self.screen, Palette):
            commands = screen_commands(self, self.screen)
            self.push_screen(Palette(self.session, commands, lambda: list_items(self)), self._run)

    def _run(self, command: "PaletteCommand | None") -> None:
        if command is not None:
            self.call_later(command.run)

    async def _show_mode(self, mode: str) -> LabScreen | None:
        """Switch to the screen of a mode, close the screens on top of it, and return it.

        None if one of them would lose work: it stays, and says what.
        """
        await self.switch_mode(mode)
        while len(self.screen_stack) > 1:
            if isinstance(self.screen, LabScreen) and self.screen.unsaved:
                self.notify(f"{self.screen.unsaved} Close this screen first.", severity="warning", markup=False)
                return None
            await self.pop_screen()
        return cast(LabScreen, self.screen)

    async def show_item(self, mode: str, name: str) -> None:
        """Switch to the screen of a mode and highlight an item there: a run, a data set or a lesson."""
        if (screen := await self._show_mode(mode)) is not None:
            screen.highlight(name)

    async def sample_from(self, source: "Source") -> None:
        """Switch to the Sample screen and choose the weights there."""
        from nanogpt_tui.screens.sample.screen import SampleScreen

        if (screen := await self._show_mode("sample")) is not None:
            cast(SampleScreen, screen).use_source(source)

    def new_run(self, dataset: str = "", known: "Iterable[DatasetInfo]" = ()) -> AwaitMount:
        """Open the form of a new run on `dataset`. `known` are data sets that the caller has listed already."""
        from nanogpt_tui.screens.new_run.screen import NewRunScreen

        return self.push_screen(NewRunScreen(dataset=dataset, known=known))

    def tokenizers(self, dataset: str = "") -> AwaitMount:
        """Open the screen that compares tokenizers, beginning with that of `dataset`."""
        from nanogpt_tui.screens.tokenizers.screen import TokenizersScreen

        return self.push_screen(TokenizersScreen(dataset))

    def health(self) -> AwaitMount:
        """Open the screen that shows the layers of the run in Train."""
        from nanogpt_tui.screens.health.screen import HealthScreen

        return self.push_screen(HealthScreen())

    def look(self, source: "Source", prompt: str = "") -> AwaitMount:
        """Open the screen that shows what these weights do with a prompt; "" is the start of the validation split."""
        from nanogpt_tui.screens.look.screen import LookScreen

        return self.push_screen(LookScreen(source, prompt))

    async def show_setting(self, name: str) -> None:
        """Focus the field of a setting in the form of a new run, which is opened unless it is on top already."""
        from nanogpt_tui.screens.new_run.screen import NewRunScreen

        if not isinstance(self.screen, NewRunScreen):
            await self.new_run()
        await cast(NewRunScreen, self.screen).focus_setting(name)

    async def show_train(self) -> None:
        """Switch to the Train screen, and close the screens on top of it that show a run."""
        await self.switch_mode("train")
        while isinstance(self.screen, LabScreen) and self.screen.SHOWS_A_RUN:
            await self.pop_screen()

    async def quick_start(self) -> None:
        """Switch to the Train screen and start the quick start."""
        from nanogpt_tui.screens.train.screen import TrainScreen

        await self.show_train()
        train = cast(TrainScreen, self.screen_stack[0])
        if train.check_action("quick_start", ()):
            train.action_quick_start()

    def traffic_changed(self) -> None:
        for bar in self.screen.query(KeyBar):
            bar.refresh()

    def action_traffic(self) -> None:
        self.set_preference("traffic", "hidden" if self.settings.traffic == "shown" else "shown")

    def action_redraw(self) -> None:
        self.redraw()

    def action_preferences(self, setting: str = "") -> None:
        from nanogpt_tui.widgets.preferences import Preferences

        if isinstance(self.screen, Preferences) and setting:
            self.screen.highlight(setting)
        elif not isinstance(self.screen, ModalScreen):
            self.push_screen(Preferences(setting))

    def change_settings(self, changes: Mapping[str, Any], forget: Collection[str] = ()) -> None:
        """Apply changed settings and save only them, not the flags of this session. Notify if that fails.

        `forget` are the changed settings that have their defaults again: the file does not keep them.
        Of the keymap only the changed keys are saved: other keys in the file may be another open app's. A read-only
        session saves nothing.

        Raise `UserError` if a value is invalid.
        """
        before, changed = self.settings.keymap, with_changes(self.settings, changes)
        check_keymap(changed.keymap)
        self.apply_settings(changed)

        def write() -> None:
            stored = load()
            merged = {"keymap": merged_keymap(stored.keymap, before, changed.keymap)} if "keymap" in changes else {}
            save(with_changes(stored, {**changes, **merged}), forget)

        if not self.session.readonly:
            self.session.write(write, self._show_problem)

    def set_preference(self, setting: str, value: str) -> None:
        """Change one setting; notify if that fails."""
        try:
            self.change_settings({setting: value})
        except UserError as error:
            self._show_problem(str(error))

    def _show_problem(self, text: str) -> None:
        if text:
            self.notify(text, severity="error", markup=False)

    def apply_settings(self, settings: Settings) -> None:
        """Apply settings to the app, the session and all screens, without saving them."""
        self.settings = settings
        self.theme = theme.NAMES[settings.theme]
        self.set_keymap(complete_keymap(settings.keymap))
        self.low_bandwidth = settings.low_bandwidth
        self.session.set_update_rate(settings.repaint_rate, settings.low_bandwidth)
        self.measure_traffic(settings.traffic == "shown")
        for stack in self._screen_stacks.values():
            for each in stack:
                if isinstance(each, LabScreen):
                    each.settings_changed()
                    for header in each.query(Header):  # which names keys
                        header.refresh()
        self.refresh(layout=True)


UNSAVED_ANSWERS = {"quit": ("x", "quit, losing what is not saved"), "stay": ("escape", "stay")}
QUIT_OR_STAY = {"quit": ("x", "quit"), "stay": ("escape", "stay")}
STARTING_ANSWERS = {"quit": ("x", "quit now: the training may not start"), "stay": ("escape", "wait")}
QUIT_ANSWERS = {
    "detach": ("b", "quit and keep training in the background"),
    "save": ("s", "save a checkpoint, then quit"),
    "stop": ("x", "quit now, losing {unsaved}"),
    "stay": ("escape", "keep training"),
}
