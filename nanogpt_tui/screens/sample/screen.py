"""The Sample screen: talk to a model, turning the knobs while it writes; look at what else it could have said.

Knows nothing of models: what writes is a `GenerationJob`, what was written is a `Completion`.
"""

import dataclasses
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from nanogpt import paths
from nanogpt.config import SamplingConfig
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Token
from nanogpt.runs.folder import run_name
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.sample.alternatives import Alternatives
from nanogpt_tui.screens.sample.completion_list import CompletionList
from nanogpt_tui.screens.sample.knobs import BY_NAME, KnobRow, Knobs, knob_bindings, moved, turned, typed
from nanogpt_tui.screens.sample.pick_source import PickSource
from nanogpt_tui.screens.sample.prompt import Prompt
from nanogpt_tui.screens.sample.token_text import Pane, TokenText
from nanogpt_tui.session import completion_store, completions
from nanogpt_tui.session.completions import LIVE, Completion, CompletionGroup, Source
from nanogpt_tui.session.generation_job import GenerationJob, ModelCache
from nanogpt_tui.session.token_distribution import DistributionLookup
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import AskValue


class SampleScreen(LabScreen):
    CSS_PATH = "sample.tcss"
    AUTO_FOCUS = ""
    HELP = (
        "Write a prompt ({sample.prompt}), start ({sample.write}), and turn the knobs while it writes: small "
        "letters turn down, capitals turn up. The background shows how sure the model was of each token; "
        "{sample.left} and {sample.right} walk over the tokens and show what it could have written instead. "
        "The same prompt, knobs and seed write the same text again."
    )
    MOUSE = (
        "A click on a token chooses it, on a knob asks for its value, on an alternative chooses that; the wheel turns "
        "a knob and scrolls a text"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "branch", "branch here", id="sample.branch", tooltip="Continue from the chosen token"),
        Binding("enter,g", "write", "write", id="sample.write", tooltip="Write with this prompt, knobs and seed"),
        Binding("escape", "stop", "stop", id="sample.stop_writing", tooltip="Stop writing; what is written stays"),
        Binding("escape", "no_cursor", "no cursor", id="sample.no_cursor", tooltip="Hide the token cursor"),
        Binding("a", "again", "again", id="sample.again", tooltip="Write again with the next seed"),
        Binding("c", "go_on", "continue", id="sample.continue", tooltip="Continue where the text ended"),
        Binding("i", "edit", "prompt", id="sample.prompt", tooltip="Edit the prompt"),
        Binding("f", "pick", "weights", id="sample.source", tooltip="Choose the weights: any checkpoint, or live"),
        Binding("b", "side_by_side", "side by side", id="sample.side", tooltip="Compare two checkpoints / single view"),
        Binding("left", "walk(-1)", "tokens", id="sample.left", tooltip="Token before"),
        Binding("right", "walk(1)", "tokens", id="sample.right", tooltip="Next token"),
        Binding("left_square_bracket", "history(-1)", "history", id="sample.earlier", tooltip="Earlier text"),
        Binding("right_square_bracket", "history(1)", "history", id="sample.later", tooltip="Later text"),
        Binding("w", "other_pane", "other side", id="sample.other", tooltip="Switch to the other text"),
        Binding("e", "export", "export", id="sample.export", tooltip="Write the history to a Markdown or JSON file"),
        Binding(
            "y",
            "copy",
            "copy",
            id="sample.copy",
            show=False,
            tooltip="Copy the text or its command",
        ),
        Binding("u", "use", "use its prompt and knobs", id="sample.use", show=False),
        Binding("h", "shades", "shade tokens by probability", id="sample.shades", show=False),
        Binding("up", "choose_by(-1)", "alternative above", id="sample.up", show=False),
        Binding("down", "choose_by(1)", "alternative below", id="sample.down", show=False),
        Binding("shift+left", "walk(-10)", "ten tokens back", id="sample.far_left", show=False),
        Binding("shift+right", "walk(10)", "ten tokens forward", id="sample.far_right", show=False),
        Binding("home", "walk(-1000000000)", "first token", id="sample.first", show=False),
        Binding("end", "walk(1000000000)", "last token", id="sample.last", show=False),
        Binding("pageup", "scroll(-1)", "scroll up", id="sample.page_up", show=False),
        Binding("pagedown", "scroll(1)", "scroll down", id="sample.page_down", show=False),
        *knob_bindings(),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.knobs = SamplingConfig()
        self.sources: list[Source] = [Source()]
        self.groups: list[CompletionGroup] = []
        self.shown = -1  # which of the rounds
        self.active = 0  # which pane
        self._alone: int | None = None  # which text of a round of two is shown alone
        self._chosen = False  # whether the person chose the source
        self._jobs: list[GenerationJob] = []

    def body(self) -> Iterator[Widget]:
        ascii_only = self.lab.settings.glyphs == "ascii"
        with Horizontal(id="sample"):
            with Vertical(id="written"):
                yield Prompt()
                with Horizontal(id="panes"):
                    yield Pane()
                    yield Pane(classes="-second")
            with Vertical(id="side"):
                yield Knobs(ascii_only)
                yield Alternatives(ascii_only)
                yield CompletionList()

    def on_mount(self) -> None:
        self.models = ModelCache(self.session)
        self.lookup = DistributionLookup(self.session, self.models, self.set_timer, self._looked_up)
        self.call_later(self._read)  # when it is mounted: news before that would be dropped

    def _read(self) -> None:
        self.session.fetch(lambda: list(completion_store.load()), self._remember, "history")

    def _remember(self, groups: list[CompletionGroup] | None, error: str) -> None:
        if error:
            self.app.notify(error, severity="error", markup=False)
        if self.is_whole and groups:
            self.shown = max(self.shown, 0) + len(groups)
            self.groups[:0] = groups
            self.repaint()

    def on_unmount(self) -> None:
        self._end(self._jobs)

    def settings_changed(self) -> None:
        for each in (*self.query(KnobRow), *self.query(Alternatives)):
            each.ascii_only = self.lab.settings.glyphs == "ascii"
        for prompt in self.query(Prompt):
            prompt.name_keys()
            self.query_one(CompletionList).show(self.groups, self.shown)
        for drawn in self.query("KnobRow, Alternatives, TokenText"):
            drawn.refresh()

    def training_changed(self) -> None:
        """Until a source is chosen: the live weights while a run is trained here, the latest checkpoint of one that
        another process trains, else the newest run's best."""
        if not self._chosen:
            self.sources[0] = Source(None, LIVE) if self.session.is_training else Source()
            if self.session.is_alive and not self.session.is_training and self.session.folder is not None:
                self.sources[0] = Source(run_name(self.session.folder), "latest")
        self.repaint()

    def use_source(self, source: Source) -> None:
        """Writes with that source from now on, in one pane."""
        self._chosen = True
        self.sources = [source]
        self.shown = len(self.groups)
        self.repaint()

    # ---- showing

    @property
    def panes(self) -> list[Pane]:
        """Those that are shown: one, or two side by side."""
        return list(self.query(Pane))[: max(len(self.current), len(self.sources))]

    @property
    def current(self) -> CompletionGroup:
        """The takes on the screen; none before the first."""
        group = self.groups[self.shown] if 0 <= self.shown < len(self.groups) else []
        return group if self._alone is None else group[self._alone : self._alone + 1]

    @property
    def completion(self) -> Completion | None:
        return self.current[self.active] if self.active < len(self.current) else None

    @property
    def view(self) -> TokenText:
        return self.panes[self.active].text

    def is_generating(self, completion: Completion | None) -> bool:
        return any(job.completion is completion and not job.done for job in self._jobs)

    def repaint(self) -> None:
        """Everything that may have changed; each part looks for itself whether it has."""
        panes = self.panes
        self.active = min(self.active, len(panes) - 1)
        self.set_class(len(panes) > 1, "-sides")
        for place, pane in enumerate(panes):
            completion = self.current[place] if place < len(self.current) else None
            pane.show(completion, self.sources[min(place, len(self.sources) - 1)])
            pane.set_class(len(panes) > 1 and place == self.active, "-active")
        self.query_one(CompletionList).show(self.groups, self.shown)
        self._show_knobs()
        self.refresh_bindings()

    def _show_knobs(self) -> None:
        """The knobs, and what they do to the token under the cursor."""
        self.query_one(Knobs).show(self.knobs, self.completion.vocab_size if self.completion else 0)
        self._show_alternatives()

    def _show_alternatives(self) -> None:
        completion, cursor = self.completion, self.view.cursor
        token = (
            completion.tokens[cursor] if completion and cursor is not None and cursor < len(completion.tokens) else None
        )
        self.set_class(token is not None, "-cursor")
        self.lookup.request(completion, cursor if token is not None else None)
        total, turned = (
            (len(completion.tokens), completions.settings_changed_at(completion, cursor or 0))
            if completion
            else (0, "")
        )
        self.query_one(Alternatives).show(token, cursor or 0, total, turned, self.lookup.distribution, self.knobs)

    def _looked_up(self) -> None:
        if self.is_whole:
            self._show_alternatives()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing now are neither shown nor obeyed."""
        if not self.is_whole or not self.panes:
            return True
        completion, cursor = self.completion, self.view.cursor
        if action in ("branch", "write"):
            return (cursor is not None) == (action == "branch")
        if action == "stop":
            return any(self.is_generating(each) for each in self.current)
        if action == "no_cursor":
            return cursor is not None and not any(self.is_generating(each) for each in self.current)
        if action == "go_on":
            return completion is not None and bool(completion.reason) and not completion.error
        if action == "walk":
            last = len(completion.tokens) - 1 if completion is not None else -1
            by = int(str(parameters[0]))
            return last >= 0 and (cursor is None or 0 <= cursor + by // abs(by) <= last)
        if action in ("use", "shades", "copy"):
            return completion is not None
        if action in ("again", "export"):
            return bool(self.groups)
        if action == "history":
            to = self.shown + int(str(parameters[0]))
            return 0 <= to < len(self.groups) and self.shown >= 0
        if action == "choose_by":
            return cursor is not None
        if action == "other_pane":
            return len(self.panes) > 1
        return True

    async def on_click(self, event: events.Click) -> None:
        if "act" in event.style.meta:
            await self.run_action(event.style.meta["act"])

    # ---- writing

    def _begin(self, group: CompletionGroup) -> None:
        """Shows a new round and writes each take that has not ended."""
        self.groups.append(group)
        self.shown, self._alone = len(self.groups) - 1, None
        self._write([completion for completion in group if not completion.reason])

    def _write(self, group: CompletionGroup) -> None:
        self._jobs = [job for job in self._jobs if not job.done]
        for completion in group:
            self._jobs.append(GenerationJob(self.session, self.models, completion, lambda: self.knobs, self._written))
        self.repaint()
        for pane in self.panes:
            if any(pane.completion is completion for completion in group):
                pane.text.follow()

    def _end(self, jobs: Iterable[GenerationJob]) -> None:
        for job in [each for each in jobs if not each.done]:
            job.stop()
            self._keep(job.completion)

    def _keep(self, completion: Completion) -> None:
        """Writes the round of a take down for later sessions."""
        for group in self.groups:
            if any(each is completion for each in group):
                try:
                    completion_store.append(group)
                except UserError as error:
                    self.notify(str(error), severity="warning", markup=False)

    def _written(self, job: GenerationJob) -> None:
        """News of a writing: they go into its take, and onto the screen only where that is shown."""
        if job.done:
            self._keep(job.completion)
        if self.is_whole and any(job.completion is completion for completion in self.current):
            self.repaint_text()

    def repaint_text(self) -> None:
        for pane, completion, source in zip(self.panes, self.current, (*self.sources, self.sources[-1]), strict=False):
            pane.show(completion, source)
        if all(completion.reason for completion in self.current):
            self.repaint()

    def action_write(self) -> None:
        self._end(self._jobs)
        prompt = self.query_one(Prompt).text
        self.view.point(None)
        self._begin([Completion(prompt, source, self.knobs) for source in self.sources])

    def action_again(self) -> None:
        self.knobs = dataclasses.replace(self.knobs, seed=self.knobs.seed + 1)
        self.action_write()

    def action_go_on(self) -> None:
        self._write([completion for completion in self.current if completion.reason and not completion.error])

    def action_branch(self) -> None:
        """Takes the chosen alternative in place of the token under the cursor, and writes on in a new take."""
        completion, cursor, choice = self.completion, self.view.cursor, self.query_one(Alternatives).choice
        if completion is None or cursor is None or choice is None:
            return
        self._end(self._jobs)
        old = completion.tokens[cursor]
        picked = Token(
            sample=0, id=choice.id, text=choice.text, probability=choice.probability, alternatives=old.alternatives
        )
        branch = Completion(
            completion.prompt,
            completion.source,
            self.knobs,
            completion.run,
            completion.step,
            completion.val_loss,
            completion.device,
            branched_at=cursor,
        )
        branch.tokens = [*completion.tokens[:cursor], picked]
        self.view.point(None)
        self._begin([branch if each is completion else each for each in self.current])

    def action_stop(self) -> None:
        self._end(job for job in self._jobs if any(job.completion is completion for completion in self.current))
        self.repaint()

    def action_no_cursor(self) -> None:
        self.view.point(None)
        self.repaint()

    # ---- the cursor

    def action_walk(self, by: int) -> None:
        completion, view = self.completion, self.view
        if completion is None or not completion.tokens:
            return
        last = len(completion.tokens) - 1
        at = (last + 1 if by < 0 else -1) if view.cursor is None else view.cursor
        view.point(max(0, min(last, at + by)))
        self._show_alternatives()
        self.refresh_bindings()

    def on_token_text_pointed(self, message: TokenText.Pointed) -> None:
        self._look_at_pane(next(place for place, pane in enumerate(self.panes) if pane.text is message.view))
        message.view.point(message.token)
        self._show_alternatives()
        self.refresh_bindings()

    def action_choose(self, row: int) -> None:
        self.query_one(Alternatives).choose(row)

    def action_choose_by(self, by: int) -> None:
        self.action_choose(self.query_one(Alternatives).chosen + by)

    def action_scroll(self, pages: int) -> None:
        self.view.scroll_relative(y=pages * max(1, self.view.size.height - 1), animate=False)

    def action_other_pane(self) -> None:
        self._look_at_pane(1 - self.active)

    def _look_at_pane(self, place: int) -> None:
        if place != self.active:
            self.view.point(None)
            self.active = place
            self.repaint()

    def action_shades(self) -> None:
        for pane in self.panes:
            pane.text.toggle_shades()

    # ---- knobs, prompt and source

    def action_turn(self, name: str, by: int) -> None:
        self.knobs = moved(self.knobs, BY_NAME[name], by)
        self._show_knobs()

    def on_knob_row_turned(self, message: KnobRow.Turned) -> None:
        self.action_turn(message.knob.name, message.by)

    def on_knob_row_asked(self, message: KnobRow.Asked) -> None:
        self.action_type_knob(message.knob.name)

    def action_type_knob(self, name: str) -> None:
        def problem(text: str) -> str:
            try:
                turned(self.knobs, name, text)
            except SettingError as error:
                return str(error)
            return ""

        def accept(text: str | None) -> None:
            if text is not None:
                self.knobs = turned(self.knobs, name, text)
                self._show_knobs()

        words = "stop strings, separated by | (\\n is a line break):" if name == "stop" else f"{BY_NAME[name].label}:"
        self.app.push_screen(AskValue(words, typed(self.knobs, name), problem), accept)

    def on_prompt_submitted(self) -> None:
        self.action_write()

    def action_edit(self) -> None:
        self.set_focus(self.query_one(Prompt))  # at once: the next key is for it

    def action_use(self) -> None:
        completion = self.completion
        if completion is not None:
            self.query_one(Prompt).text = completion.prompt
            self.knobs = completion.knob_changes[-1][1] if completion.knob_changes else completion.knobs
            self.sources = [each.source for each in self.current]
            self._chosen = True
            self.repaint()

    def action_pick(self) -> None:
        self._pick(min(self.active, len(self.sources) - 1))

    def _pick(self, place: int) -> None:
        side = "" if len(self.sources) == 1 and place == 0 else (" for the left text", " for the right text")[place]
        self.app.push_screen(
            PickSource(self.session, f"Weights{side}:"),
            lambda source: self._picked(place, source) if source is not None else None,
        )

    def _picked(self, place: int, source: Source) -> None:
        self._chosen = True
        self.sources = [*self.sources[:place], source, *self.sources[place + 1 :]]
        self.repaint()

    def action_side_by_side(self) -> None:
        """A second text beside this one; or of two, the one that has the keys alone."""
        if len(self.panes) > 1:
            self._alone = self.active if len(self.current) > 1 else None
            self.sources = [self.sources[min(self.active, len(self.sources) - 1)]]
            self.active = 0
            self.repaint()
        else:
            self._pick(1)

    # ---- history

    def action_history(self, by: int) -> None:
        to = max(0, min(len(self.groups) - 1, self.shown + by))
        if to != self.shown:
            self.view.point(None)
            self.shown, self._alone = to, None
            self.repaint()

    def action_copy(self) -> None:
        if self.completion is not None:
            copy_menu.offer(self.lab, copy_menu.of_completion(self.completion))

    def action_export(self) -> None:
        file = Path.cwd() / time.strftime("samples-%Y%m%d-%H%M%S.md")

        def problem(text: str) -> str:
            try:
                completions.export(self.groups, paths.expanded(text))
            except UserError as error:
                return str(error)
            return ""

        def done(text: str | None) -> None:
            if text is not None:
                self.notify(f"{len(self.groups)} texts written to {text}", markup=False)

        self.app.push_screen(
            AskValue("Export the history to a file that ends in .md or .json:", str(file), problem), done
        )
