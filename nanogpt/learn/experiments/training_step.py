"""One training step by hand: eight characters, the guesses, the loss, the gradient, and the guesses after the step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.setting import setting
from nanogpt.errors import UserError
from nanogpt.learn import experiment
from nanogpt.learn.characters import character_ids
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Curve, Curves, Figure, Figures, Sentence, Table, Update, Working
from nanogpt.learn.labels import character_label, percent, quoted
from nanogpt.learn.text import lesson_text

if TYPE_CHECKING:
    import torch

    from nanogpt.learn.trainer import Trainer
    from nanogpt.tokenizers import Tokenizer

SHOWN = 6  # characters with a bar
ENOUGH = 3  # steps after which the lesson is done
PARTS = {"wte": "embedding, head", "wpe": "positions", "attn": "attention", "mlp": "MLP", "ln": "norms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model, how long it learns before the learner's first step, and the steps."""

    n_layer: int = setting(1, "blocks of the model", low=1, high=4)
    n_embd: int = setting(32, "width of the model, a multiple of 4", low=4, high=128)
    window: int = setting(8, "characters that the model reads", low=2, high=32)
    warm_up: int = setting(60, "steps on other parts of the text before the first", low=0, high=1000)
    learning_rate: float = setting(3e-3, "learning rate of the steps", above=0, high=10)


@dataclass(frozen=True, slots=True)
class State:
    """The guesses at one time: `probabilities` (T, V) after each position, `loss` in nats, their mean."""

    probabilities: "torch.Tensor"
    loss: float


class Experiment(experiment.Experiment[Settings]):
    """Trains on one short passage, a step for each key."""

    name: ClassVar[str] = "training_step"
    settings_class: ClassVar[type[experiment.Settings]] = Settings

    trainer: "Trainer"
    tokenizer: "Tokenizer"
    ids: "torch.Tensor"  # of the whole text, (n,)
    place: int  # where the passage begins
    states: list[State]  # before the first step, and after each
    gradient_norms: dict[str, float]  # by part of the model, of the last step
    change: float  # the mean change of a weight by the last step

    @property
    def actions(self) -> tuple[Action, ...]:
        """One step, ten steps, another passage."""
        return Action("s", "one step", "step"), Action("t", "ten steps", "ten"), Action("n", "another text", "next")

    def start(self) -> Iterator[Update]:
        """Build a model, let it learn for a moment, and show its guesses on a passage."""
        yield Working(0.0, "building a model")
        import torch

        from nanogpt.learn.trainer import Trainer, build_model, windows

        settings = self.settings
        self.tokenizer, self.ids = character_ids(lesson_text(self.data_dir).text)
        shape = {"n_layer": settings.n_layer, "n_head": 4, "n_embd": settings.n_embd, "block_size": settings.window}
        model = build_model("gpt2", vocab_size=self.tokenizer.vocab_size, seed=settings.seed, **shape)
        batches = windows(self.ids, settings.window, 16)
        self.trainer = Trainer(model, batches, learning_rate=settings.learning_rate, seed=settings.seed)
        for step in self.trainer.train(settings.warm_up):
            yield Working(step.number / settings.warm_up, f"step {step.number} on other text, loss {step.loss:.2f}")
        self.random = torch.Generator().manual_seed(settings.seed)
        self.choose_passage()
        yield self.picture()

    def act(self, name: str) -> Iterator[Update]:
        """Do steps, or choose another passage."""
        if name == "next":
            self.choose_passage()
        count = {"step": 1, "ten": 10}.get(name, 0)
        for done in range(count):
            self.step()
            yield Working((done + 1) / count, f"step {len(self.states) - 1}, loss {self.states[-1].loss:.2f}")
        yield self.picture()

    def choose_passage(self) -> None:
        """Choose a passage whose last two characters are letters."""
        import torch

        for _ in range(1000):
            self.place = int(torch.randint(len(self.ids) - self.settings.window, (), generator=self.random))
            if self.passage[-2:].isalpha() and "\n" not in self.passage:
                break
        self.states, self.gradient_norms, self.change = [self.state()], {}, 0.0

    @property
    def window(self) -> "torch.Tensor":
        """The ids of the passage and of the character after it, (T + 1,)."""
        return self.ids[self.place : self.place + self.settings.window + 1]

    @property
    def passage(self) -> str:
        """The text of the passage, with the character after it."""
        return self.tokenizer.decode(self.window.tolist())

    def state(self) -> State:
        """Return what the model guesses now."""
        import torch

        with torch.no_grad():
            logs = torch.log_softmax(self.trainer.model.logits(self.window[None, :-1])[0], -1)  # (T, V)
        loss = -logs.gather(1, self.window[1:, None]).mean()
        return State(logs.exp(), float(loss))

    def step(self) -> None:
        """Do one step on the passage."""
        parameters = dict(self.trainer.model.named_parameters())
        before = [parameter.detach().clone() for parameter in parameters.values()]
        loss = self.trainer.gradients((self.window[None, :-1], self.window[None, 1:]))
        squares = dict.fromkeys(PARTS.values(), 0.0)
        for name, parameter in parameters.items():
            part = next((label for key, label in PARTS.items() if key in name), PARTS["wte"])
            if parameter.grad is not None:
                squares[part] += float((parameter.grad**2).sum())
        self.gradient_norms = {part: square**0.5 for part, square in squares.items()}
        self.trainer.update(loss)
        moved = sum(
            float((now.detach() - old).abs().sum()) for now, old in zip(parameters.values(), before, strict=True)
        )
        self.change = moved / sum(each.numel() for each in before)
        state = self.state()
        if not state.probabilities.isfinite().all():
            raise UserError("the weights are no longer finite numbers: the learning rate is too high for this model")
        self.states.append(state)
        self.done = self.done or len(self.states) > ENOUGH

    def picture(self) -> Figures:
        """Return all figures of the passage as it is now."""
        return Figures(tuple(self.figures()))

    def figures(self) -> Iterator[Figure]:
        """Yield what the model read and guesses, and what the last step did."""
        now, steps = self.states[-1], len(self.states) - 1
        read, right = self.passage[:-1], self.passage[-1]
        yield Sentence(f"The model reads {quoted(read)}. The next character is {quoted(right)}.")
        yield self.guesses(now)
        yield self.positions(now)
        if steps:
            parts = tuple(Bar(part, norm) for part, norm in self.gradient_norms.items() if norm)
            total = sum(norm**2 for norm in self.gradient_norms.values()) ** 0.5
            yield Bars(f"Norm of the gradient in each part of the model, in all {total:.2f}", parts)
            yield Sentence(self.finding(self.states[-2], now))
        else:
            size = self.tokenizer.vocab_size
            yield Sentence(
                f"The loss, its mean surprise at the {len(self.window) - 1} right characters, is {now.loss:.2f} nats. "
                f"Blind guesses among {size} characters have a loss of ln {size} = {math.log(size):.2f}."
            )
        if steps > 1:
            losses = tuple(state.loss for state in self.states)
            curve = Curve("loss", tuple(map(float, range(steps + 1))), losses)
            yield Curves("Loss on this passage", "steps", "nats", (curve,))

    def guesses(self, now: State) -> Bars:
        """Return the most likely next characters, and the right one."""
        before = self.states[-2] if len(self.states) > 1 else None
        right = int(self.window[-1])
        likely = now.probabilities[-1].topk(min(SHOWN, self.tokenizer.vocab_size)).indices.tolist()
        rows = tuple(
            Bar(
                character_label(self.tokenizer.decode([id])),
                float(now.probabilities[-1, id]),
                percent(float(now.probabilities[-1, id])),
                None if before is None else float(before.probabilities[-1, id]),
                marked=id == right,
            )
            for id in (likely if right in likely else [*likely[:-1], right])
        )
        return Bars(f"The guess for the character after {quoted(self.passage[:-1])}", rows)

    def positions(self, now: State) -> Table:
        """Return the guess at each position of the passage, before the last step and after."""
        before, rows = self.states[-2] if len(self.states) > 1 else now, list[tuple[str, ...]]()
        for place, target in enumerate(self.window[1:].tolist()):
            old, new = float(before.probabilities[place, target]), float(now.probabilities[place, target])
            shares = (percent(old), percent(new)) if before is not now else (percent(new),)
            loss = f"{-float(now.probabilities[place, target].log()):.2f}"
            rows.append((quoted(self.passage[: place + 1]), quoted(self.passage[place + 1]), *shares, loss))
        columns = ("before", "after") if before is not now else ("probability",)
        return Table("All guesses in the passage", ("read", "next", *columns, "loss"), tuple(rows))

    def finding(self, before: State, now: State) -> str:
        """Return what the last step did."""
        steps, right = len(self.states) - 1, int(self.window[-1])
        fell = "fell" if now.loss < before.loss else "did not fall: it went"
        old, new = float(before.probabilities[-1, right]), float(now.probabilities[-1, right])
        return (
            f"Step {steps} moved each weight by {self.change:.5f} on average. The loss {fell} from {before.loss:.3f} "
            f"to {now.loss:.3f}, and {quoted(self.passage[-1])} went from {percent(old)} to {percent(new)}."
        )
