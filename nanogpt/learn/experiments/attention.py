"""A head that learns to copy: two layers of attention on sequences of random letters that repeat themselves.

The first copy cannot be predicted, the later ones only by looking back: at the letter after the earlier copy of the
present one. A head that does so is an induction head (Olsson et al. 2022). The period of the repetition changes from
sequence to sequence, so that no fixed distance helps.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config import setting
from nanogpt.learn import experiment
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Curve, Curves, Figure, Figures, HeatMap, Sentence, Table, Update, Working
from nanogpt.learn.labels import percent

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from nanogpt.inspection.attention import HeadScores
    from nanogpt.learn.trainer import Batch
    from nanogpt.models.base import LanguageModel

LETTERS = len(ascii_lowercase)
PREVIOUS, INDUCTION = "previous token", "induction"
TESTED = 64  # sequences on which the copying is measured
MEASURE_INTERVAL = 10  # steps
LEARNED_SHARE, LEARNED_SCORE = 0.97, 0.6  # the training ends when both are reached
PREVIOUS_SCORE = 0.4  # from which a head is said to look at the previous letter
SHOWN_LETTERS = 6  # before the example repeats itself
SHOWN_GUESSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model, its training and the sequences."""

    steps: int = setting(1000, "training steps at most", low=1, high=100_000)
    n_head: int = setting(1, "heads in each of the two layers", low=1, high=16)
    n_embd: int = setting(32, "width of the model; a multiple of n_head", low=2, high=1024)
    block_size: int = setting(24, "letters of a sequence", low=8, high=256)
    shortest_period: int = setting(4, "fewest letters before a sequence repeats itself", low=2, high=LETTERS)
    longest_period: int = setting(12, "most letters before a sequence repeats itself", low=2, high=LETTERS)
    batch_size: int = setting(32, "sequences in a step", low=1, high=1024)
    learning_rate: float = setting(3e-3, "learning rate", above=0, high=10)


@dataclass(frozen=True, slots=True)
class Head:
    """A head by the name of its layer, such as h.1.attn, and its number in it, from 0."""

    layer: str
    number: int


class Experiment(experiment.Experiment[Settings]):
    """Train the model until it copies, and show where its heads look and what they are good for."""

    name = "attention"
    settings_class: ClassVar[type[experiment.Settings]] = Settings
    model: "LanguageModel | None" = None  # after the first training

    def start(self) -> Iterator[Update]:
        """Train a new model."""
        its, self.model = self.settings, None
        yield Working(0, "building a model")
        import torch

        from nanogpt.learn.trainer import Trainer, build_model

        model = build_model(
            "gpt2",
            vocab_size=LETTERS,
            seed=its.seed,
            n_layer=2,
            n_head=its.n_head,
            n_embd=its.n_embd,
            block_size=its.block_size,
            feed_forward=False,
            positions="rotary",
            bias=True,  # of queries and keys: a head can look at a distance whatever the letters are
            tied_head=False,  # with a tied one no head learned to copy in 1,000 steps
        )
        random = torch.Generator().manual_seed(its.seed)
        self.tested = self._sequences(random, TESTED)
        self.example = self._example(random)
        self.trainer = Trainer(
            model,
            lambda random: self._sequences(random, its.batch_size),
            learning_rate=its.learning_rate,
            seed=its.seed,
            weight_decay=0.0,
            schedule=lambda step: min(1.0, (step + 1) / 20),
        )
        self.steps: list[float] = []
        self.copied: list[float] = []  # share of the repeated letters that are predicted right, at each of the steps
        self.scores: list[list[HeadScores]] = []
        self.shown: Head | None = None
        self.is_off = False  # whether the shown head is switched off
        self.typed = ""
        yield from self._train(model)
        self.model = model
        yield self._figures()

    @property
    def actions(self) -> tuple[Action, ...]:
        """What there is to look at after the training."""
        if self.model is None:
            return ()
        return (
            Action("-", "switch this head on" if self.is_off else "switch this head off", "switch"),
            Action(">", "next head", "head"),
            Action("+", "train longer", "train"),
        )

    @property
    def question(self) -> str:
        """A sequence of the learner's own."""
        return "" if self.model is None else "Type letters, and begin to repeat them (such as kqzwkq)"

    def act(self, name: str) -> Iterator[Update]:
        """Switch the shown head off or on, show the next one, or train longer."""
        assert self.model is not None
        if name == "switch":
            self.is_off = not self.is_off
            self.done = True
        elif name == "head":
            heads = [Head(each.layer, each.head) for each in self.scores[-1]]
            self.shown = heads[(heads.index(self._head()) + 1) % len(heads)]
            self.is_off = False
        elif name == "train":
            self.is_off = False
            yield from self._train(self.model)
        yield self._figures()

    def answer(self, text: str) -> Iterator[Update]:
        """Show what the model predicts after the letters of a text."""
        letters = [letter for letter in text.lower() if letter in ascii_lowercase]
        if letters:
            self.example = [ascii_lowercase.index(letter) for letter in letters][-self.settings.block_size :]
            self.typed = "".join(letters)[-self.settings.block_size :]
            self.done = True
        yield self._figures()

    def _sequences(self, random: "Generator", count: int) -> "Batch":
        """Return random sequences that repeat themselves, and the letters to predict: those that are repeated.

        A sequence begins with different letters. The first repeated letter does not count: nothing tells the period.
        The period is below block_size, whatever the settings, so that every sequence has a letter to predict.
        """
        import torch

        its = self.settings
        letters = torch.rand(count, LETTERS, generator=random).argsort(1)  # (B, 26)
        shortest, longest = sorted(min(each, its.block_size - 1) for each in (its.shortest_period, its.longest_period))
        period = torch.randint(shortest, longest + 1, (count, 1), generator=random)
        places = torch.arange(its.block_size + 1)  # (T + 1)
        rows = letters.gather(1, places % period)  # (B, T + 1)
        return rows[:, :-1], torch.where(places[1:] > period, rows[:, 1:], -1)

    def _example(self, random: "Generator") -> list[int]:
        import torch

        letters = torch.randperm(LETTERS, generator=random)[: min(SHOWN_LETTERS, self.settings.block_size // 2)]
        return letters.repeat(2).tolist()

    def _train(self, model: "LanguageModel") -> Iterator[Update]:
        """Train until the model copies, or for all steps."""
        first, steps = self.trainer.steps, self.settings.steps
        if not self.steps:
            self._measure(model)
        for step in self.trainer.train(steps):
            doing = f"step {step.number:,}, at most {first + steps:,}: {percent(self.copied[-1])} copied"
            yield Working((step.number - first) / steps, doing)
            if step.number % MEASURE_INTERVAL == 0 or step.number == first + steps:
                self._measure(model)
                yield self._live_figures(model)
                if self.copied[-1] >= LEARNED_SHARE and self._best(INDUCTION) >= LEARNED_SCORE:
                    return

    def _measure(self, model: "LanguageModel") -> None:
        from nanogpt.inspection.attention import score_heads
        from nanogpt.sampling.threads import threads

        with threads(1):
            self.steps.append(float(self.trainer.steps))
            self.copied.append(copied_share(model, self.tested))
            self.scores.append(score_heads(model, self.settings.seed))

    def _best(self, kind: str, moment: int = -1) -> float:
        return max(each.scores[kind] for each in self.scores[moment])

    def _head(self) -> Head:
        """Return the head that is shown: the chosen one, else that with the highest induction score."""
        return self.shown or self._head_of(INDUCTION)

    def _head_of(self, kind: str) -> Head:
        best = max(self.scores[-1], key=lambda each: each.scores[kind])
        return Head(best.layer, best.head)

    def _named(self, head: Head) -> str:
        layers = list(dict.fromkeys(each.layer for each in self.scores[-1]))
        layer = f"layer {layers.index(head.layer) + 1}"
        return f"{layer}, head {head.number + 1}" if self.settings.n_head > 1 else f"the head of {layer}"

    def _live_figures(self, model: "LanguageModel") -> Figures:
        return Figures((self._curves(), self._heat_map(model, self._head())))

    def _figures(self) -> Figures:
        model, head = self.model, self._head()
        assert model is not None
        with switched_off(model, head, self.settings.n_head) if self.is_off else nullcontext():
            figures: list[Figure] = [*map(Sentence, self._sentences(model))]
            figures += [self._heat_map(model, head), self._head_bars()]
            if self.typed:
                figures.append(self._guesses(model))
        return Figures((*figures, self._curves()))

    def _curves(self) -> Curves:
        xs = tuple(self.steps)
        curves = (
            Curve("predicted repeated letters", xs, tuple(self.copied)),
            Curve("best induction score", xs, tuple(self._best(INDUCTION, at) for at in range(len(xs)))),
            Curve("best previous-letter score", xs, tuple(self._best(PREVIOUS, at) for at in range(len(xs)))),
        )
        return Curves("A head learns to copy", "step", "share", curves)

    def _heat_map(self, model: "LanguageModel", head: Head) -> HeatMap:
        import torch

        from nanogpt.inspection.attention import attention_of
        from nanogpt.sampling.threads import threads

        with threads(1):
            layers = {each.name: each.weights for each in attention_of(model, torch.tensor(self.example))}
        weights = layers[head.layer][head.number].tolist()  # (T, T)
        letters = tuple(ascii_lowercase[id] for id in self.example)
        title = f"Where {self._named(head)} looks: from the letter of the row at those of the columns"
        return HeatMap(title, tuple(map(tuple, weights)), letters, letters, 0.0, 1.0)

    def _head_bars(self) -> Bars:
        shown, rows = self._head(), []
        for each, start in zip(self.scores[-1], self.scores[0], strict=True):
            head = Head(each.layer, each.head)
            score = each.scores[INDUCTION]
            note = " ".join((f"{score:.2f}", each.kind))
            rows.append(Bar(self._named(head), score, note, before=start.scores[INDUCTION], marked=head == shown))
        return Bars("Induction score of each head", tuple(rows))

    def _guesses(self, model: "LanguageModel") -> Table:
        """Return what the model predicts after each typed letter, from the second half of the text on."""
        import torch

        from nanogpt.models.base import evaluation_mode

        with torch.no_grad(), evaluation_mode(model):
            top = model.logits(torch.tensor([self.example]))[0].softmax(-1).topk(SHOWN_GUESSES)  # (T, k)
        rows = []
        for place in range(len(self.typed) // 2, len(self.typed)):
            guesses = zip(top.indices[place].tolist(), top.values[place].tolist(), strict=True)
            came = self.typed[place + 1] if place + 1 < len(self.typed) else "?"
            rows.append((self.typed[: place + 1], *(f"{ascii_lowercase[id]} {percent(p)}" for id, p in guesses), came))
        return Table("What it predicts", ("after", *("1st", "2nd", "3rd")[:SHOWN_GUESSES], "came"), tuple(rows))

    def _sentences(self, model: "LanguageModel") -> Iterator[str]:
        best, score, before = self._head_of(INDUCTION), self._best(INDUCTION), self._best(INDUCTION, 0)
        looks = f"looks at the letter after the earlier copy with {percent(score)} of its attention"
        if score >= LEARNED_SCORE:
            name = self._named(best).capitalize()
            yield f"{name} {looks}; before the training the best head did so with {percent(before)}."
        else:
            best_head = self._named(best)
            yield f"In this run no head has learned to copy: the best, {best_head}, {looks}. Press + to continue."
        yield (
            f"The model predicts {percent(self.copied[-1])} of the repeated letters, {percent(self.copied[0])} before "
            f"the training; guessing gives {percent(1 / LETTERS)}."
        )
        yield self._of_previous(best)
        if self.is_off:
            off, on = copied_share(model, self.tested), self.copied[-1]
            yield f"With {self._named(self._head())} switched off it predicts {percent(off)} instead of {percent(on)}."
        if self.typed:
            yield self._of_typed(model)

    def _of_previous(self, induction: Head) -> str:
        previous, score = self._head_of(PREVIOUS), self._best(PREVIOUS)
        if score >= PREVIOUS_SCORE and previous.layer < induction.layer:
            return (
                f"{self._named(previous).capitalize()} looks at the previous letter ({percent(score)}), so that each "
                "letter carries what came before it. The other head needs that."
            )
        most = f"{self._named(previous)} does so most, {percent(score)}"
        return f"No earlier head looks mainly at the previous letter; {most}."

    def _of_typed(self, model: "LanguageModel") -> str:
        import torch

        from nanogpt.models.base import evaluation_mode

        with torch.no_grad(), evaluation_mode(model):
            probabilities = model.logits(torch.tensor([self.example]))[0, -1].softmax(-1)  # (V,)
        guess = int(probabilities.argmax())
        found = (
            f"After “{self.typed}” it predicts “{ascii_lowercase[guess]}” with {percent(float(probabilities[guess]))}"
        )
        earlier = self.typed.rfind(self.typed[-1], 0, len(self.typed) - 1)
        if earlier < 0:
            return f"{found}: the last letter is new, so that there is nothing to copy."
        copied = self.typed[earlier + 1]
        verb = "which" if copied == ascii_lowercase[guess] else f"but “{copied}”"
        return f"{found}, {verb} came after the earlier “{self.typed[-1]}”."


def copied_share(model: "LanguageModel", batch: "Batch") -> float:
    """Return the share of the targets (B, T) that are not -1 for which the right letter is the most likely one."""
    import torch

    from nanogpt.models.base import evaluation_mode

    ids, targets = batch
    with torch.no_grad(), evaluation_mode(model):
        is_right = model.logits(ids).argmax(-1) == targets  # (B, T)
    return float(is_right[targets >= 0].float().mean())


@contextmanager
def switched_off(model: "LanguageModel", head: Head, n_head: int) -> Iterator[None]:
    """Inside this context a head adds nothing to the residual stream."""
    import torch

    weight: Tensor = model.get_parameter(f"{head.layer}.c_proj.weight")  # (C, C)
    size = weight.size(1) // n_head
    columns = weight.detach()[:, head.number * size : (head.number + 1) * size]
    before = columns.clone()
    with torch.no_grad():
        columns.zero_()
        try:
            yield
        finally:
            columns.copy_(before)
