"""The Look screen: what a model does with a prompt, on any checkpoint of a run and on the weights in training."""

import time
from collections.abc import Iterator
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.look.attention_view import attention_view
from nanogpt_tui.screens.look.embeddings_view import embeddings_view
from nanogpt_tui.screens.look.lens_view import lens_view
from nanogpt_tui.screens.look.losses_view import losses_view
from nanogpt_tui.screens.look.parts import Frame, clickable, token_label, token_lines
from nanogpt_tui.session.completions import LIVE, Source
from nanogpt_tui.session.inspector import (
    AttentionFound,
    EmbeddingsFound,
    Found,
    Inspection,
    Inspector,
    LensFound,
    LossesFound,
    Request,
    View,
)
from nanogpt_tui.text import escaped, loss_text, safe_content, short_weights, unescaped
from nanogpt_tui.widgets.dialog import AskValue
from nanogpt_tui.widgets.shades import shade

VIEWS: dict[View, str] = {
    "attention": "attention",
    "lens": "logit lens",
    "embeddings": "embeddings",
    "losses": "losses",
}
MIN_LIVE_S = 1.0  # between two computations of the live weights
LIVE_SHARE = 0.2  # of the time at most that they take


class LookScreen(LabScreen):
    """On top of Train or Sample. The view is computed in a thread; until then the last one stays."""

    CSS_PATH = "look.tcss"
    SHOWS_A_RUN = True
    AUTO_FOCUS = ""
    HELP = (
        "What the model does with a prompt ({look.prompt} edits it). Attention: where each head looks; the heads that "
        "look at the token before, at the first token, or at what followed an earlier copy are named by scores on a "
        "repeated random text. Logit lens: what each layer would predict if it were the last. Embeddings: which tokens "
        "are alike. Losses: which positions and tokens cost most, and what changed since a checkpoint. "
        "{look.earlier} and {look.later} go through the checkpoints of the run; the last place is the live weights."
    )
    MOUSE = "A click on a token, the number of a head or a prediction chooses it; the wheel moves over the tokens"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "token(-1)", "token", id="look.left", tooltip="Previous token"),
        Binding("right", "token(1)", "token", id="look.right", tooltip="Next token"),
        Binding("v", "view(1)", "view", id="look.next_view", tooltip="Attention, logit lens, embeddings, losses"),
        Binding("V", "view(-1)", "view", id="look.previous_view", show=False, tooltip="The view before"),
        Binding("h", "head(1)", "head", id="look.next_head", tooltip="The next head"),
        Binding("H", "head(-1)", "head", id="look.previous_head", show=False, tooltip="The head before"),
        Binding("L,up", "layer(1)", "layer", id="look.next_layer", tooltip="The next layer"),
        Binding("down", "layer(-1)", "layer", id="look.previous_layer", show=False, tooltip="The layer before"),
        Binding("left_square_bracket", "checkpoint(-1)", "checkpoint", id="look.earlier", tooltip="Earlier checkpoint"),
        Binding("right_square_bracket", "checkpoint(1)", "checkpoint", id="look.later", tooltip="Later checkpoint"),
        Binding(
            "c", "compare", "compare with this", id="look.compare", tooltip="Show later changes since these weights"
        ),
        Binding("i", "edit", "prompt", id="look.prompt", tooltip="Edit the prompt"),
        Binding("home", "token(-1000000)", "first token", id="look.first", show=False),
        Binding("end", "token(1000000)", "last token", id="look.last", show=False),
        Binding("escape,I", "close", "back", id="look.close", tooltip="Back to the run or the text"),
    ]

    def __init__(self, source: Source, prompt: str) -> None:
        super().__init__()
        self.source, self._prompt = source, prompt
        self._view: View = "attention"
        self._baseline: int | None = None
        self._token: int | None = None  # None: the last one
        self._layer = self._head = 0
        self._shown_sources: list[Source] = []
        self._saves = 0  # of the run, when the view was asked for

    def body(self) -> Iterator[Widget]:
        self.inspector = Inspector(self.session, self.repaint)
        yield Static(id="about")
        yield Static(id="tokens")
        yield Static(id="view")

    def on_mount(self) -> None:
        self._request()

    def on_unmount(self) -> None:
        self.inspector.stop()

    # ---- what is shown and chosen

    @property
    def inspection(self) -> Inspection | None:
        """What is shown; None before the first answer."""
        return self.inspector.shown

    @property
    def found(self) -> Found | None:
        """The figures that are shown."""
        return self.inspection.found if self.inspection is not None else None

    @property
    def sources(self) -> list[Source]:
        """The weights to choose from: the checkpoints of the run, and the live ones if it is training here."""
        inspection = self.inspection
        if inspection is None:
            return []
        steps, history = inspection.checkpoints, self.session.history
        if history is not None and self.session.folder == inspection.folder:
            newer = [saved.step for saved in history.saves if saved.step > max(steps, default=0)]
            steps += tuple(newer[-1:])  # those between may have been removed again
        found = [Source(str(inspection.folder), str(step)) for step in steps]
        if self.session.is_training and self.session.folder == inspection.folder:
            found.append(Source(None, LIVE))
        return found

    @property
    def place(self) -> int | None:
        """The index of the chosen weights in `sources`; None if they are not among them."""
        sources = self.sources
        if self.source in sources:
            return sources.index(self.source)
        step = str(self.inspection.step) if self.inspection is not None else ""
        return next((at for at, each in enumerate(sources) if each.which == step), None)

    def _counts(self) -> tuple[int, int]:
        """Return the number of layers, and of heads of the chosen layer, in what is shown."""
        match self.found:
            case AttentionFound(layers=layers) if layers:
                return len(layers), len(layers[min(self._layer, len(layers) - 1)].weights)
            case LensFound(layers=layers):
                return len(layers), 0
        return 0, 0

    def _cursor(self) -> int:
        last = len(self.inspection.ids) - 1 if self.inspection is not None else 0
        return last if self._token is None else min(self._token, last)

    def _request(self) -> None:
        """Ask for what is chosen. If no run is training here any more, its latest checkpoint takes the place of live
        weights."""
        history, folder = self.session.history, self.session.folder
        has_ended = self.source.which == LIVE and not self.session.is_training
        if has_ended and history is not None and history.saves and folder is not None:
            self.source = Source(str(folder), "latest")
        live_step = history.step if self.source.which == LIVE and history is not None else 0
        self._saves = len(history.saves) if history is not None else 0
        baseline = self._baseline if self._view == "losses" else None
        self.inspector.request(Request(self.source, self._view, self._prompt, baseline, live_step))
        self.repaint()

    def training_changed(self) -> None:
        """Compute the live weights again after a while, in a small share of the time; what failed, with the next
        checkpoint; and everything after a rollback."""
        inspector, history = self.inspector, self.session.history
        pause_s = max(MIN_LIVE_S, inspector.took_s * (1 / LIVE_SHARE - 1))
        has_rested = not inspector.is_busy and time.monotonic() - inspector.ended_at > pause_s
        if inspector.error and history is not None and len(history.saves) != self._saves:
            inspector.stop()  # so that the same request is another one
            self._request()
        elif inspector.is_outdated or (self.source.which == LIVE and (has_rested or not self.session.is_training)):
            self._request()
        elif self.sources != self._shown_sources:
            self.repaint()

    def settings_changed(self) -> None:
        self.repaint()

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.call_after_refresh(self.repaint)

    # ---- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not self.is_whole:
            return True
        inspection = self.inspection
        by = int(str(parameters[0])) if action in ("token", "head", "layer", "checkpoint") else 0
        layers, heads = self._counts()
        match action:
            case "token":
                last = len(inspection.ids) - 1 if inspection is not None and self._view != "losses" else 0
                return 0 <= self._cursor() + by // abs(by) <= last and last > 0
            case "head":
                return heads > 1
            case "layer":
                return layers > 1
            case "checkpoint":
                place = self.place
                return place is not None and 0 <= place + by < len(self.sources)
            case "compare":
                step = inspection.step if inspection is not None and self._view == "losses" else None
                return step != self._compared_step() and step in self._checkpoints
            case "edit":
                return self._view != "losses"
        return True

    @property
    def _checkpoints(self) -> tuple[int, ...]:
        return self.inspection.checkpoints if self.inspection is not None else ()

    def _compared_step(self) -> int | None:
        return self._baseline if self._baseline in self._checkpoints else min(self._checkpoints, default=None)

    def action_view(self, by: int) -> None:
        views = list(VIEWS)
        self.action_show_view(views[(views.index(self._view) + by) % len(views)])

    def action_show_view(self, view: View) -> None:
        self._view = view
        self._request()

    def action_token(self, by: int) -> None:
        self.action_token_at(self._cursor() + by)

    def action_token_at(self, place: int) -> None:
        if self.inspection is not None and self.inspection.ids:
            self._token = max(0, min(len(self.inspection.ids) - 1, place))
            self.repaint()

    def action_head(self, by: int) -> None:
        heads = self._counts()[1]
        self._head = (min(self._head, heads - 1) + by) % heads
        self.repaint()

    def action_layer(self, by: int) -> None:
        layers = self._counts()[0]
        self._layer = (min(self._layer, layers - 1) + by) % layers
        self.repaint()

    def action_head_at(self, layer: int, head: int) -> None:
        self._layer, self._head = layer, head
        self.repaint()

    def action_lens_at(self, layer: int, token: int) -> None:
        self._layer = layer
        self.action_token_at(token)

    def action_checkpoint(self, by: int) -> None:
        place = self.place
        if place is not None:
            self.source = self.sources[place + by]
            self._request()

    def action_compare(self) -> None:
        if self.inspection is not None:
            self._baseline = self.inspection.step
            self._request()

    def action_edit(self) -> None:
        shown = self.inspection.prompt if self.inspection is not None else self._prompt
        question = AskValue("Look at this prompt (\\n is a line break, \\\\ a backslash):", escaped(shown))
        self.app.push_screen(question, self._edited)

    def _edited(self, text: str | None) -> None:
        if text is not None:
            self._prompt, self._token = unescaped(text), None
            self._request()

    def action_close(self) -> None:
        self.dismiss()

    async def on_click(self, event: events.Click) -> None:
        if "act" in event.style.meta:
            await self.run_action(event.style.meta["act"])

    def on_mouse_scroll_down(self) -> None:
        self.action_token(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_token(-1)

    # ---- drawing

    def repaint(self) -> None:
        """Draw what is known now."""
        if not self.is_whole:
            return
        self._shown_sources = self.sources
        inspection, view = self.inspection, self.query_one("#view", Static)
        width = view.size.width
        self.query_one("#about", Static).update(self._about(width), layout=False)
        ascii_only = self.lab.settings.glyphs == "ascii"
        labels: tuple[str, ...] = ()
        if inspection is not None:
            labels = tuple(token_label(inspection.tokenizer, id, ascii_only) for id in inspection.ids)
        cursor = self._cursor()
        layers, heads = self._counts()
        frame = Frame(
            labels=labels,
            token=cursor,
            layer=min(self._layer, max(0, layers - 1)),
            head=min(self._head, max(0, heads - 1)),
            width=width,
            height=view.size.height,
            ascii_only=ascii_only,
        )
        line, has_prompt = self.query_one("#tokens", Static), self._view != "losses"
        line.update(Content("\n").join(token_lines(labels, cursor, width, self._marks(frame))), layout=False)
        if line.display != has_prompt:
            line.display = has_prompt
            self.call_after_refresh(self.repaint)  # the view has another height then
        shown = self._figures(frame) if width else None
        view.set_class(shown is None, "-words")
        view.update(shown if shown is not None else self._words(), layout=False)
        self.refresh_bindings()

    def _about(self, width: int) -> Content:
        """Return the names of the views, and the weights."""
        parts: list[Content] = []
        for name, title in VIEWS.items():
            style = "bold $accent underline" if name == self._view else "$quiet"
            parts += [clickable(Content.styled(title, style), f"show_view('{name}')"), Content("   ")]
        inspection, sources, place = self.inspection, self.sources, self.place
        if inspection is None:
            return Content.assemble(*parts, "\n", ("loading the weights …", "$quiet"))
        live = "live weights, " if inspection.request.source.which == LIVE else ""
        loss = f"   val loss {loss_text(inspection.val_loss)}" if inspection.val_loss is not None else ""
        track = ""
        if place is not None and len(sources) > 1:
            before, after = ("◀" if place else " "), ("▶" if place + 1 < len(sources) else " ")
            track = f"   {before} {place + 1} of {len(sources)} {after}"
        is_other = inspection.request.source != self.source or inspection.request.view != self._view
        waits = "   …" if is_other and not self.inspector.error else ""
        room = width - cell_len(loss + track + waits)
        weights = safe_content(short_weights(f"{inspection.run} · {live}step {inspection.step:,}", max(20, room)))
        return Content.assemble(*parts, "\n", weights, (loss, "$quiet"), (track, "$accent"), (waits, "$quiet"))

    def _marks(self, frame: Frame) -> list[str]:
        """Return for each token the shade of the attention that it gets from the token under the cursor."""
        if not isinstance(self.found, AttentionFound):
            return []
        weights = self.found.layers[frame.layer].weights[frame.head][frame.token]
        return [shade(float(weight), frame.ascii_only) for weight in weights]

    def _figures(self, frame: Frame) -> Content | None:
        """Return the figures that are shown; None if there are none, or those of another view."""
        inspection = self.inspection
        if inspection is None or inspection.request.view != self._view or self.inspector.error:
            return None
        match inspection.found:
            case AttentionFound() as found if found.layers:
                return attention_view(found, frame)
            case LensFound() as found:
                return lens_view(found, inspection.tokenizer, inspection.ids, frame)
            case EmbeddingsFound() as found:
                return embeddings_view(found, inspection.tokenizer, inspection.ids, frame)
            case LossesFound() as found:
                return losses_view(found, inspection.tokenizer, frame)
        return None

    def _words(self) -> Content:
        """Return why there is no view."""
        inspection = self.inspection
        problem = self.inspector.error
        if not problem and inspection is not None and inspection.request.view == self._view:
            problem = inspection.problem
        return safe_content(problem[:1].upper() + problem[1:] if problem else "computing …")
