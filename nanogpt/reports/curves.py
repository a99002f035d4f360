"""The charts of a run: losses, learning rate, gradient norm and speed."""

from collections.abc import Iterator

import numpy as np

from nanogpt.events import Acknowledged, Evaluated, Spike
from nanogpt.inspection.spikes import describe
from nanogpt.reports.chart import Curve, chart
from nanogpt.reports.markup import Markup
from nanogpt.reports.record import RunRecord
from nanogpt.training.control import REMOTE

MARKS = 200  # of a chart
SINGLE = {"learning_rate": "Learning rate", "grad_norm": "Gradient norm", "tokens_per_second": "Tokens per second"}


def loss_chart(record: RunRecord, width: float = 1120.0, height: float = 340.0) -> Markup:
    """Return the chart of the losses in nats per token, with spikes and commands as marks."""
    evaluations = record.all(Evaluated)
    steps = [event.step for event in evaluations]
    curves = [
        Curve("training", record.steps["step"], record.steps["loss"]),
        Curve("validation", steps, [event.val_loss for event in evaluations], colour=1, dots=True),
    ]
    if any(event.ema_val_loss is not None for event in evaluations):
        averaged = [np.nan if event.ema_val_loss is None else event.ema_val_loss for event in evaluations]
        curves.append(Curve("validation of averaged weights", steps, averaged, colour=2, dots=True))
    marks = [(event.step, describe(event)) for event in record.all(Spike)]
    changes = {name for name, kind in REMOTE.items() if kind.is_change}
    marks += [(event.step, event.text) for event in record.all(Acknowledged) if event.command in changes]
    title = "Loss in nats per token"
    return chart(title, curves, may_be_log=False, marks=marks[-MARKS:], width=width, height=height)


def other_charts(record: RunRecord) -> Iterator[Markup]:
    """Yield the charts of what else each step reports."""
    for number, (name, title) in enumerate(SINGLE.items()):
        curve = Curve(title, record.steps["step"], record.steps[name], colour=(3, 2, 0)[number])
        yield chart(title, [curve], may_be_log=name == "grad_norm", width=372, height=220)
