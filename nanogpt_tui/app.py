"""The app: its modes, its keys, its palette. What the screens show is theirs; the work is the session's."""

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.filter import LineFilter
from textual.geometry import Size
from textual.screen import ModalScreen, Screen
from textual.widget import AwaitMount
from textual.widgets import Input, TextArea

from nanogpt.errors import UserError
from nanogpt.formatting import printable
from nanogpt_tui import screens, theme
from nanogpt_tui.keys import check, complete, shown
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.train.compact import FULL_SIZE, CompactScreen, fits
from nanogpt_tui.session.alerts import Alerts
from nanogpt_tui.session.messages import ThrottledUpdate
from nanogpt_tui.session.session import Session
from nanogpt_tui.session.workers import log_exception
from nanogpt_tui.settings import Settings, load, save, with_changes
from nanogpt_tui.terminal import daemonize
from nanogpt_tui.terminal.ascii import KEYS, Ascii
from nanogpt_tui.terminal.terminal_app import TerminalApp
from nanogpt_tui.widgets.dialog import Ask
from nanogpt_tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from nanogpt.data.catalog import DatasetInfo
    from nanogpt_tui.session.completions import Source
    from nanogpt_tui.widgets.palette import PaletteCommand

TERMINAL_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 2.0  # for other runs that are being trained


class LabApp(TerminalApp):
    """One session: four modes over one `Session`."""

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
        """`watched` is the folder of the run that is shown first, instead of one that is being trained or the newest;
        `readonly`, no run is started, steered or changed."""
        self.settings, self._ascii = settings, Ascii()
        self.crash = ""  # the one line to show when the app ended by an error of its own
        self.left = False  # whether the training is to go on when the app has ended
        super().__init__()
        pace = settings.repaints
        self.session = Session(self, self.training_changed, runs_dir=runs_dir, per_second=pace, readonly=readonly)
        self._watched = watched
        self._alerts = Alerts()

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, self._ascii] if self.settings.glyphs == "ascii" else filters

    def get_key_display(self, binding: Binding) -> str:
        shown = super().get_key_display(binding)
        if self.settings.glyphs == "ascii":
            for sign, name in KEYS.items():
                shown = shown.replace(sign, name)
        return shown

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.DEFAULTS

    def on_mount(self) -> None:
        for each in theme.THEMES:
            self.register_theme(each)
        self.obey(self.settings)
        self.switch_mode("train")
        self.call_after_refresh(self.fit)
        self.call_after_refresh(self._look_first)
        self.set_interval(LOOK_INTERVAL_S, self.session.discover_runs)
        self._leave_on_signals()

    def on_resize(self, event: Resize) -> None:
        self.fit(event.size)

    def fit(self, size: Size | None = None) -> None:
        """Lays the compact screen over the one in front while the terminal (now of `size`) is too small for that."""
        if not self.screen_stack or self.current_mode == "_default":
            return
        enough = fits(size or self.size, FULL_SIZE)
        if not enough and not any(isinstance(screen, CompactScreen) for screen in self.screen_stack):
            self.push_screen(CompactScreen())
        elif enough and isinstance(self.screen, CompactScreen):
            self.pop_screen()

    @property
    def _background_screens(self) -> list[Screen[Any]]:
        """The screens that get a new size with the one in front: none that lies under the compact one, where they would
        be laid out in less room than they can be."""
        for at, screen in enumerate(self._screen_stack):
            if isinstance(screen, CompactScreen):
                return list(self._screen_stack[at:-1])
        return super()._background_screens

    def _look_first(self) -> None:
        """Shows a run, unless a key has started one already."""
        if not self.session.is_alive:
            self.session.show_run(self._watched)

    def _leave_on_signals(self) -> None:
        """Kill and shutdown end the app in order, and whoever runs it saves the training then. A terminal that goes
        away ends the app alone."""
        if self.is_headless or not hasattr(signal, "SIGHUP"):
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            daemonize.on_signal(number, loop, lambda: self.exit(0))
        daemonize.on_signal(signal.SIGHUP, loop, self.hang_up)
        if os.isatty(0):
            self.set_interval(TERMINAL_INTERVAL_S, self._look_for_the_terminal)

    def _look_for_the_terminal(self) -> None:
        if daemonize.abandoned():
            self.exit(0)
        elif daemonize.hung_up():
            self._leave()

    def hang_up(self) -> None:
        # Later, because the terminal of a keeper that is killed goes before it is seen to have gone itself.
        asyncio.get_running_loop().call_later(0.1, self._leave)

    def _leave(self) -> None:
        """The terminal has gone: training does not need it."""
        self.left = not daemonize.abandoned()
        self.exit(0)

    def thread_failed(self, error: Exception, vital: bool) -> None:
        """In a thread that ends with `error`: notes the crash. A `vital` one is a part of the app, which ends too."""
        self._note_crash(error)
        if vital and self._loop is not None:
            self._loop.call_soon_threadsafe(self.exit, 1)

    def _handle_exception(self, error: Exception) -> None:
        """An error in the interface itself: to the log file, then Textual ends the app."""
        self._note_crash(error)
        super()._handle_exception(error)

    def _note_crash(self, error: Exception) -> None:
        line = log_exception(error)
        self.crash = self.crash or line  # the first is the cause of the others

    def on_throttled_update(self, message: ThrottledUpdate) -> None:
        message.throttle.fire()

    def training_changed(self) -> None:
        """The training has news: the screen in front shows it, the others when they come to the front."""
        for news in self._alerts.new_alerts(self.session.history):
            if self.settings.notifications != "off":
                self.tell(news, self.settings.notifications)
        front = next((screen for screen in reversed(self.screen_stack) if isinstance(screen, LabScreen)), None)
        if front is not None and front.is_whole:
            front.show_training()

    def is_ready(self) -> bool:
        return not (isinstance(self.screen, LabScreen) and self.screen.is_reading)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that the preferences ask for is no command, not even Textual's own."""
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
        if self.session.is_starting:
            self.push_screen(Ask("A training process is still starting.", STARTING_ANSWERS), self._quit_as)
        elif self.session.is_training:
            unsaved = self.session.history.unsaved if self.session.history else "the run"
            answers = {
                name: (key, text.format(unsaved=unsaved))
                for name, (key, text) in QUIT_ANSWERS.items()
                if name != "leave" or daemonize.can_leave()
            }
            self.push_screen(Ask("A run is training.", answers), self._quit_as)
        elif isinstance(self.screen, CompactScreen) and isinstance(self.screen_stack[-2].focused, Input | TextArea):
            self.push_screen(Ask("Quit?", {"give up": ("q", "quit"), "stay": ("escape", "stay")}), self._quit_as)
        else:
            self.exit(0)

    async def action_interrupt(self) -> None:
        """Ctrl+C: copies what is selected, asks while a run is trained, and else says how to quit."""
        typing = isinstance(self.focused, Input | TextArea)
        if self.screen.get_selected_text() or (typing and self.focused.selected_text):  # type: ignore[union-attr]
            raise SkipAction
        if isinstance(self.screen, ModalScreen):
            self.notify("Esc closes this window", markup=False)
        elif self.session.is_training or self.session.is_starting:
            await self.action_quit()
        else:
            self.notify(f"{shown('app.quit', self, typing=typing)} quits", markup=False)

    def action_suspend_process(self) -> None:
        if daemonize.can_leave():
            super().action_suspend_process()
        else:
            self.notify("cannot be suspended here: no process would keep the terminal for it", markup=False)

    @property
    def note_when_suspended(self) -> str:
        trained = self.session.history.run if self.session.history and self.session.is_training else ""
        what = f"{printable(trained)} is still training" if trained else "suspended"
        return f"nanogpt-tui: {what}; fg returns to the app"

    def no_shell_to_suspend_to(self) -> None:
        self.notify("there is no shell to return to", markup=False)

    def _quit_as(self, answer: str | None) -> None:
        if answer in ("leave", "give up"):
            self.left = answer == "leave"
            self.exit(0)
        if answer not in ("save", "stop"):
            return
        from nanogpt.training import Stop

        self.session.send(Stop(save=answer == "save"))
        self.notify("saving a checkpoint, then quitting" if answer == "save" else "stopping")
        self.set_interval(0.05, self._quit_when_done)

    def _quit_when_done(self) -> None:
        if not self.session.is_training:
            self.exit(0)

    def action_command_palette(self) -> None:
        from nanogpt_tui.commands import jumps, of_screen
        from nanogpt_tui.widgets.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(self.session, of_screen(self, self.screen), lambda: jumps(self)), self._run)

    def _run(self, command: "PaletteCommand | None") -> None:
        if command is not None:
            self.call_later(command.run)

    async def _show_mode(self, mode: str) -> LabScreen:
        """Switch to the screen of a mode, close the screens on top of it, and return it."""
        await self.switch_mode(mode)
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        return cast(LabScreen, self.screen)

    async def show_item(self, mode: str, name: str) -> None:
        """Switch to the screen of a mode and highlight an item there: a run in "runs", a data set in "data"."""
        (await self._show_mode(mode)).highlight(name)

    async def sample_from(self, source: "Source") -> None:
        """Switch to the Sample screen and choose the weights there."""
        from nanogpt_tui.screens.sample.screen import SampleScreen

        cast(SampleScreen, await self._show_mode("sample")).use_source(source)

    def new_run(self, dataset: str = "", known: "Iterable[DatasetInfo]" = ()) -> AwaitMount:
        """Open the form of a new run on `dataset`. `known` are data sets that the caller has listed already."""
        from nanogpt_tui.screens.new_run.screen import NewRunScreen

        return self.push_screen(NewRunScreen(dataset=dataset, known=known))

    async def show_setting(self, name: str) -> None:
        """Focus the field of a setting in the form of a new run, which is opened unless it is on top already."""
        from nanogpt_tui.screens.new_run.screen import NewRunScreen

        if not isinstance(self.screen, NewRunScreen):
            await self.new_run()
        await cast(NewRunScreen, self.screen).focus_setting(name)

    async def quick_start(self) -> None:
        await self.switch_mode("train")
        await self.run_action("screen.quick_start")

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
            self.screen.stand_on(setting)
        elif not isinstance(self.screen, ModalScreen):
            self.push_screen(Preferences(setting))

    def change(self, changes: Mapping[str, Any]) -> None:
        """Puts changed settings into force and writes them down, and them alone: not what the command line asked of
        this session. Raises `UserError` for a value, or a settings file, that cannot be used."""
        changed = with_changes(self.settings, changes)
        check(changed.keymap)
        self.obey(changed)
        save(with_changes(load(), changes))

    def set_preference(self, setting: str, value: str) -> None:
        try:
            self.change({setting: value})
        except UserError as error:
            self.notify(str(error), severity="error", markup=False)

    def obey(self, settings: Settings) -> None:
        """Puts settings into force."""
        self.settings = settings
        self.theme = theme.NAMES[settings.theme]
        self.set_keymap(complete(settings.keymap))
        self.sparing = settings.sparing
        self.session.set_update_rate(settings.repaints, settings.sparing)
        self.measure_traffic(settings.traffic == "shown")
        for stack in self._screen_stacks.values():
            for each in stack:
                if isinstance(each, LabScreen):
                    each.settings_changed()
        self.refresh(layout=True)


STARTING_ANSWERS = {"give up": ("x", "quit now: the training may not start"), "stay": ("escape", "wait")}
QUIT_ANSWERS = {
    "leave": ("b", "quit and keep training in the background"),
    "save": ("s", "save a checkpoint, then quit"),
    "stop": ("x", "quit now, losing {unsaved}"),
    "stay": ("escape", "keep training"),
}
