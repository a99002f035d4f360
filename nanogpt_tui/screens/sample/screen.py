"""The Sample screen: a model continues a prompt; the knobs can be turned meanwhile, and any token can be replaced."""

import dataclasses
import time
from collections.abc import Iterator
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from nanogpt import paths
from nanogpt.config import SamplingConfig
from nanogpt.formatting import counted
from nanogpt.runs.folder import run_name
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.sample.alternatives import Alternatives
from nanogpt_tui.screens.sample.completion_controller import CompletionController, branched
from nanogpt_tui.screens.sample.completion_list import CompletionList
from nanogpt_tui.screens.sample.knobs import BY_NAME, KnobRow, Knobs, as_typed, knob_bindings, set_typed, turn
from nanogpt_tui.screens.sample.pane import Pane
from nanogpt_tui.screens.sample.pick_source import PickSource
from nanogpt_tui.screens.sample.prompt import Prompt
from nanogpt_tui.screens.sample.token_text import TokenText
from nanogpt_tui.session import completion_store, completions
from nanogpt_tui.session.completions import LIVE, Completion, CompletionGroup, Source
from nanogpt_tui.session.generation_job import GenerationJob, ModelCache
from nanogpt_tui.session.token_distribution import DistributionLookup
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import AskValue, in_current_folder, problem_of


class SampleScreen(LabScreen):
    """A prompt and one or two texts; knobs, alternatives of a token and the history."""

    CSS_PATH = "sample.tcss"
    AUTO_FOCUS = ""
    HELP = (
        "Write a prompt ({sample.prompt}), start ({sample.write}), and turn the knobs while it writes: small "
        "letters turn down, capitals turn up. The background shows how probable each token was; "
        "{sample.left} and {sample.right} move over the tokens and show what it could have written instead. "
        "The same prompt, knobs and seed give the same text again."
    )
    MOUSE = (
        "A click on a token chooses it, on a knob asks for its value, on an alternative chooses that; the wheel turns "
        "a knob and scrolls a text"
    )
    WRITES = frozenset({"export"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "branch", "branch here", id="sample.branch", tooltip="Continue from the chosen token"),
        Binding("enter,g", "write", "write", id="sample.write", tooltip="Write with this prompt, knobs and seed"),
        Binding("escape", "stop", "stop", id="sample.stop_writing", tooltip="Stop writing; the text so far stays"),
        Binding("escape", "no_cursor", "no cursor", id="sample.no_cursor", tooltip="Hide the token cursor"),
        Binding("a", "again", "again", id="sample.again", tooltip="Write again with the next seed"),
        Binding("c", "continue", "continue", id="sample.continue", tooltip="Continue where the text ended"),
        Binding("i", "edit", "prompt", id="sample.prompt", tooltip="Edit the prompt"),
        Binding("f", "pick", "weights", id="sample.source", tooltip="Choose the weights: any checkpoint, or live"),
        Binding("b", "side_by_side", "side by side", id="sample.side", tooltip="Compare two checkpoints / single view"),
        Binding("left", "move_cursor(-1)", "tokens", id="sample.left", tooltip="Previous token"),
        Binding("right", "move_cursor(1)", "tokens", id="sample.right", tooltip="Next token"),
        Binding("left_square_bracket", "history(-1)", "history", id="sample.earlier", tooltip="Previous text"),
        Binding("right_square_bracket", "history(1)", "history", id="sample.later", tooltip="Next text"),
        Binding("w", "other_pane", "other side", id="sample.other", tooltip="Switch to the other text"),
        Binding("I", "look", "look inside", id="sample.look", tooltip="What the model does with this text"),
        Binding("e", "export", "export", id="sample.export", tooltip="Write the history to a Markdown or JSON file"),
        Binding("y", "copy", "copy", id="sample.copy", show=False, tooltip="Copy the text or its command"),
        Binding("u", "use", "use its prompt and knobs", id="sample.use", show=False),
        Binding("h", "shades", "shade tokens by probability", id="sample.shades", show=False),
        Binding("up", "choose_by(-1)", "alternative above", id="sample.up", show=False),
        Binding("down", "choose_by(1)", "alternative below", id="sample.down", show=False),
        Binding("shift+left", "move_cursor(-10)", "ten tokens back", id="sample.far_left", show=False),
        Binding("shift+right", "move_cursor(10)", "ten tokens forward", id="sample.far_right", show=False),
        Binding("home", "move_cursor(-1000000000)", "first token", id="sample.first", show=False),
        Binding("end", "move_cursor(1000000000)", "last token", id="sample.last", show=False),
        Binding("pageup", "scroll(-1)", "scroll up", id="sample.page_up", show=False),
        Binding("pagedown", "scroll(1)", "scroll down", id="sample.page_down", show=False),
        *knob_bindings(),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.knobs = SamplingConfig()
        self.sources: list[Source] = [Source()]
        self.active = 0  # the pane that the keys are for
        self._panes: list[Pane] = []  # kept: `check_action` needs them for every key of the screen
        self._has_chosen = False  # whether the user has chosen the weights

    def body(self) -> Iterator[Widget]:
        self.models = ModelCache(self.session)
        self.lookup = DistributionLookup(self.session, self.models, self.set_timer, self._show_distribution)
        self.completions = CompletionController(
            self.session, self.models, lambda: self.knobs, self._show_tokens, self._warn
        )
        ascii_only = self.lab.settings.glyphs == "ascii"
        with Horizontal(id="sample"):
            with Vertical(id="written"):
                yield Prompt()
                with Horizontal(id="panes"):
                    self._panes = [Pane(), Pane(classes="-second")]
                    yield from self._panes
            with Vertical(id="side"):
                yield Knobs(ascii_only)
                yield Alternatives(ascii_only)
                yield CompletionList()

    def on_mount(self) -> None:
        self.call_later(self._read_history)  # when it is mounted: results before that would be dropped

    def _read_history(self) -> None:
        writable = not self.session.readonly
        self.session.fetch(lambda: list(completion_store.load(shorten=writable)), self._add_history, "history")

    def _add_history(self, groups: list[CompletionGroup] | None, error: str) -> None:
        if error:
            self.app.notify(error, severity="error", markup=False)
        if self.is_whole and groups:
            self.completions.prepend(groups)
            self.repaint()

    def _warn(self, problem: str) -> None:
        self.notify(problem, severity="warning", markup=False)

    def on_unmount(self) -> None:
        self.completions.stop()

    def settings_changed(self) -> None:
        for each in (*self.query(KnobRow), *self.query(Alternatives)):
            each.ascii_only = self.lab.settings.glyphs == "ascii"
        for prompt in self.query(Prompt):
            prompt.update_placeholder()
            self.query_one(CompletionList).show(self.completions.groups, self.completions.shown)
        for widget in self.query("KnobRow, Alternatives, TokenText"):
            widget.refresh()

    def training_changed(self) -> None:
        """Unless the user has chosen weights, take the live ones of a run in training here, else the latest checkpoint
        of a run that another process trains, else the best checkpoint of the newest run."""
        if not self._has_chosen:
            self.sources[0] = Source(None, LIVE) if self.session.is_training else Source()
            if self.session.is_alive and not self.session.is_training and self.session.folder is not None:
                self.sources[0] = Source(run_name(self.session.folder), "latest")
        self.repaint()

    def use_source(self, source: Source) -> None:
        """Choose the weights of the next text, in one pane."""
        self._has_chosen = True
        self.sources = [source]
        self.completions.show_none()
        self.repaint()

    # ---- showing

    @property
    def panes(self) -> list[Pane]:
        """The panes that are shown: one, or two side by side."""
        return self._panes[: max(len(self.current), len(self.sources))]

    @property
    def current(self) -> CompletionGroup:
        """The completions on the screen."""
        return self.completions.current

    @property
    def completion(self) -> Completion | None:
        """The completion in the active pane."""
        return self.current[self.active] if self.active < len(self.current) else None

    @property
    def view(self) -> TokenText:
        """The text in the active pane."""
        return self.panes[self.active].text

    @property
    def is_generating(self) -> bool:
        """Whether a completion on the screen is being generated."""
        return any(self.completions.is_generating(completion) for completion in self.current)

    def repaint(self) -> None:
        """Update all widgets; each repaints only if something changed."""
        panes = self.panes
        self.active = min(self.active, len(panes) - 1)
        self.set_class(len(panes) > 1, "-sides")
        for place, pane in enumerate(panes):
            completion = self.current[place] if place < len(self.current) else None
            pane.show(completion, self.sources[min(place, len(self.sources) - 1)])
            pane.set_class(len(panes) > 1 and place == self.active, "-active")
        self.query_one(CompletionList).show(self.completions.groups, self.completions.shown)
        self._show_knobs()
        self.refresh_bindings()

    def _show_knobs(self) -> None:
        """Update the knobs, and the alternatives of the token under the cursor, whose bars depend on them."""
        self.query_one(Knobs).show(self.knobs, self.completion.vocab_size if self.completion else 0)
        self._show_alternatives()

    def _show_alternatives(self) -> None:
        completion, cursor = self.completion, self.view.cursor
        tokens = completion.tokens if completion else []
        token = tokens[cursor] if cursor is not None and cursor < len(tokens) else None
        self.set_class(token is not None, "-cursor")
        self.lookup.request(completion, cursor if token is not None else None)
        changed = completions.settings_changed_at(completion, cursor or 0) if completion else ""
        self.query_one(Alternatives).show(
            token, cursor or 0, len(tokens), changed, self.lookup.distribution, self.knobs
        )

    def _show_distribution(self) -> None:
        if self.is_whole:
            self._show_alternatives()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not super().check_action(action, parameters):
            return False
        if not self.is_whole:
            return True
        completion, cursor = self.completion, self.view.cursor
        if action in ("branch", "write"):
            return (cursor is not None) == (action == "branch")
        if action == "stop":
            return self.is_generating
        if action == "no_cursor":
            return cursor is not None and not self.is_generating
        if action == "continue":
            return completion is not None and bool(completion.reason) and not completion.error
        if action == "move_cursor":
            last = len(completion.tokens) - 1 if completion is not None else -1
            by = int(str(parameters[0]))
            return last >= 0 and (cursor is None or 0 <= cursor + by // abs(by) <= last)
        if action in ("use", "shades", "copy"):
            return completion is not None
        if action in ("again", "export"):
            return bool(self.completions.groups)
        if action == "history":
            return self.completions.can_move(int(str(parameters[0])))
        if action == "choose_by":
            return cursor is not None
        if action == "other_pane":
            return len(self.panes) > 1
        return True

    async def on_click(self, event: events.Click) -> None:
        if "act" in event.style.meta:
            await self.run_action(event.style.meta["act"])

    # ---- generating

    def _start(self, group: CompletionGroup) -> None:
        """Show a new group, and generate those of its completions that have not ended."""
        self.completions.add(group)
        self._follow()

    def _follow(self) -> None:
        """Scroll to the end of completions that are generated now, as they grow."""
        self.repaint()
        for pane in self.panes:
            if pane.completion is not None and self.completions.is_generating(pane.completion):
                pane.text.follow()

    def _show_tokens(self, job: GenerationJob) -> None:
        """Show the new tokens of a completion if it is on the screen."""
        if self.is_whole and any(job.completion is completion for completion in self.current):
            self.repaint_text()

    def repaint_text(self) -> None:
        """Update the texts alone, until they have ended."""
        for pane, completion, source in zip(self.panes, self.current, (*self.sources, self.sources[-1]), strict=False):
            pane.show(completion, source)
        if all(completion.reason for completion in self.current):
            self.repaint()

    def action_write(self) -> None:
        self.completions.stop()
        prompt = self.query_one(Prompt).text
        self.view.move_cursor(None)
        self._start([Completion(prompt, source, self.knobs) for source in self.sources])

    def action_again(self) -> None:
        following = turn(self.knobs, BY_NAME["seed"], 1)
        if following == self.knobs:  # it has the last seed
            following = dataclasses.replace(self.knobs, seed=0)
        self.knobs = following
        self.action_write()

    def action_continue(self) -> None:
        self.completions.generate([each for each in self.current if each.reason and not each.error])
        self._follow()

    def action_branch(self) -> None:
        """Continue from the chosen alternative to the token under the cursor, in a new completion."""
        completion, cursor, chosen = self.completion, self.view.cursor, self.query_one(Alternatives).chosen
        if completion is None or cursor is None or chosen is None:
            return
        self.completions.stop()
        branch = branched(completion, cursor, chosen, self.knobs)
        self.view.move_cursor(None)
        self._start([branch if each is completion else each for each in self.current])

    def action_stop(self) -> None:
        self.completions.stop(self.current)
        self.repaint()

    def action_no_cursor(self) -> None:
        self.view.move_cursor(None)
        self.repaint()

    # ---- the cursor

    def action_move_cursor(self, by: int) -> None:
        completion, view = self.completion, self.view
        if completion is None or not completion.tokens:
            return
        last = len(completion.tokens) - 1
        at = (last + 1 if by < 0 else -1) if view.cursor is None else view.cursor
        view.move_cursor(max(0, min(last, at + by)))
        self._show_alternatives()
        self.refresh_bindings()

    def on_token_text_token_clicked(self, message: TokenText.TokenClicked) -> None:
        self._activate_pane(next(place for place, pane in enumerate(self.panes) if pane.text is message.view))
        message.view.move_cursor(message.token)
        self._show_alternatives()
        self.refresh_bindings()

    def action_choose(self, row: int) -> None:
        self.query_one(Alternatives).choose(row)

    def action_choose_by(self, by: int) -> None:
        self.action_choose(self.query_one(Alternatives).chosen_row + by)

    def action_scroll(self, pages: int) -> None:
        self.view.scroll_relative(y=pages * max(1, self.view.size.height - 1), animate=False)

    def action_other_pane(self) -> None:
        self._activate_pane(1 - self.active)

    def _activate_pane(self, place: int) -> None:
        if place != self.active:
            self.view.move_cursor(None)
            self.active = place
            self.repaint()

    def action_shades(self) -> None:
        for pane in self.panes:
            pane.text.toggle_shades()

    # ---- knobs, prompt and source

    def action_turn(self, name: str, by: int) -> None:
        self.knobs = turn(self.knobs, BY_NAME[name], by)
        self._show_knobs()

    def on_knob_row_turned(self, message: KnobRow.Turned) -> None:
        self.action_turn(message.knob.name, message.by)

    def on_knob_row_value_requested(self, message: KnobRow.ValueRequested) -> None:
        self.action_type_knob(message.knob.name)

    def action_type_knob(self, name: str) -> None:
        def accept(text: str | None) -> None:
            if text is not None:
                self.knobs = set_typed(self.knobs, name, text)
                self._show_knobs()

        question = (
            "stop strings, separated by | (\\n is a line break):" if name == "stop" else f"{BY_NAME[name].label}:"
        )
        check = problem_of(lambda text: set_typed(self.knobs, name, text))
        self.app.push_screen(AskValue(question, as_typed(self.knobs, name), check), accept)

    def on_prompt_submitted(self) -> None:
        self.action_write()

    def action_edit(self) -> None:
        self.set_focus(self.query_one(Prompt))  # at once: the next key is for it

    def action_use(self) -> None:
        completion = self.completion
        if completion is not None:
            self.query_one(Prompt).replace_text(completion.prompt)
            self.knobs = completion.knob_changes[-1][1] if completion.knob_changes else completion.knobs
            self.sources = [self._source_of(each) for each in self.current]
            self._has_chosen = True
            self.repaint()

    def _source_of(self, completion: Completion) -> Source:
        """Return the weights that wrote a text; for live ones of a run that is not training now, its latest ones."""
        source, session = completion.exact_source, self.session
        is_live = session.can_send and session.folder is not None and session.folder.name == completion.run
        return Source(completion.run, "latest") if source.which == LIVE and completion.run and not is_live else source

    def action_pick(self) -> None:
        self._pick(min(self.active, len(self.sources) - 1))

    def _pick(self, place: int) -> None:
        side = "" if len(self.sources) == 1 and place == 0 else (" for the left text", " for the right text")[place]
        self.app.push_screen(
            PickSource(self.session, f"Weights{side}:"),
            lambda source: self._picked(place, source) if source is not None else None,
        )

    def _picked(self, place: int, source: Source) -> None:
        self._has_chosen = True
        self.sources = [*self.sources[:place], source, *self.sources[place + 1 :]]
        self.repaint()

    def action_side_by_side(self) -> None:
        """Choose weights for a second pane; or if there are two, show the active one alone."""
        if len(self.panes) > 1:
            self.completions.side = self.active if len(self.current) > 1 else None
            self.sources = [self.sources[min(self.active, len(self.sources) - 1)]]
            self.active = 0
            self.repaint()
        else:
            self._pick(1)

    # ---- history

    def action_history(self, by: int) -> None:
        if self.completions.can_move(by):
            self.view.move_cursor(None)
            self.completions.move(by)
            self.repaint()

    def action_look(self) -> None:
        """Look inside the weights that wrote the text, or that write the next one."""
        completion = self.completion
        if completion is None or completion.error:
            self.lab.look(self.sources[min(self.active, len(self.sources) - 1)], self.query_one(Prompt).text)
            return
        last = len(completion.tokens) if self.view.cursor is None else self.view.cursor + 1
        text = completion.prompt + "".join(token.text for token in completion.tokens[:last])
        self.lab.look(self._source_of(completion), text)

    def action_copy(self) -> None:
        if self.completion is not None:
            offered = copy_menu.completion_items(self.completion, self.session.runs_dir)
            copy_menu.ask_copy(self.lab, offered)

    def action_export(self) -> None:
        file = in_current_folder(time.strftime("samples-%Y%m%d-%H%M%S.md"))
        groups = list(self.completions.groups)

        def done(text: str | None) -> None:
            if text is not None:
                self.notify(f"{counted(len(groups), 'text')} written to {text}", markup=False)

        question = AskValue(
            "Export the history to a file that ends in .md or .json:",
            file,
            act=lambda text: completions.export(groups, paths.expanded(text)),
        )
        self.app.push_screen(question, done)
