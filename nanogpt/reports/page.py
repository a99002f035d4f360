"""A run as one HTML page without scripts, and without anything that would be loaded from elsewhere.

All text of the run is escaped by `markup.element`, and the page's own policy forbids scripts and requests.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nanogpt import __version__
from nanogpt.events import LayerHealth, Notice, Sampled, Spike, Started
from nanogpt.formatting import counted, duration, significant
from nanogpt.inspection.spikes import describe
from nanogpt.reports.chart import STYLE, label
from nanogpt.reports.curves import loss_chart, other_charts
from nanogpt.reports.evenly import evenly
from nanogpt.reports.layers import heat_map, layer_table
from nanogpt.reports.markup import Markup, element, join
from nanogpt.reports.record import RunRecord

SAMPLES, SPIKES = 8, 20  # shown at most
UNSHOWN = ("format", "name", "train_sha256")  # of the table [run]
LONGEST_TEXT = 5_000  # characters of a sample or of a text of a spike
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

PAGE_STYLE = """
:root { color-scheme: light dark; --ground: #f6f5f2; --card: #ffffff; --line: #e3e1db; --ink: #1d1d1b; --quiet: #6b6b68;
  --accent: #2f6bd8; --warm: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ground: #101013; --card: #1a1a1f; --line: #2e2e35; --ink: #ecebe7;
  --quiet: #a3a29d; --accent: #7fa9ff; --warm: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { margin: 0; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; font-size: 18px; }
p { margin: 6px 0; }
.quiet, dt, th { color: var(--quiet); font-weight: 400; }
.state { display: inline-block; margin-left: 10px; padding: 1px 10px; border: 1px solid; border-radius: 99px;
  font-size: 13px; font-weight: 500; vertical-align: middle; color: var(--accent); }
.state.failed, .state.interrupted, .warning { color: var(--warm); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); gap: 12px; margin: 22px 0; }
.figures dt { font-size: 13px; line-height: 1.3; }
.figures .card { display: flex; flex-direction: column; justify-content: space-between; padding: 10px 12px; }
.figures dd { margin: 0; font-size: 19px; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 12px; margin-top: 12px; }
svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide svg { min-width: 720px; }
pre { margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
pre b { color: var(--accent); font-weight: 600; }
.card + details { margin-top: 8px; }
summary { cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 18px 3px 0; text-align: right; white-space: nowrap; }
td:first-child, th:first-child, .settings td { text-align: left; }
.settings { columns: 330px; column-gap: 32px; }
.settings table { width: 100%; margin-bottom: 14px; break-inside: avoid; }
.settings td { white-space: normal; overflow-wrap: anywhere; width: 50%; vertical-align: top; padding-right: 8px; }
.settings .changed td { color: var(--accent); font-weight: 600; }
footer { margin-top: 40px; color: var(--quiet); font-size: 13px; }
"""


def write_page(record: RunRecord, path: Path) -> None:
    """Write the page. Raise OSError."""
    path.write_text(page(record), encoding="utf-8")


def page(record: RunRecord) -> str:
    """Return the page: charts, figures, samples, spikes, the health of the layers, and the settings."""
    state = record.state
    sections = [
        element("h1", state.name, element("span", state.phase, class_=f"state {state.state}")),
        *_summary(record),
        element("dl", *_figures(record), class_="figures"),
        element("div", loss_chart(record), class_="card wide"),
        element("div", *(element("div", each, class_="card") for each in other_charts(record)), class_="charts"),
        *_samples(record.all(Sampled)),
        *_spikes(record.all(Spike)),
        *_layers(record),
        *_settings(record),
        element("footer", f"Written by nanogpt-tui {__version__} on {_day(time.time())}."),
    ]
    head = element(
        "head",
        Markup('<meta charset="utf-8"/>'),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", state.name),
        Markup(f"<style>{PAGE_STYLE}{STYLE}</style>"),
    )
    body = element("body", element("main", *(join(each, Markup("\n")) for each in sections)))
    return f'<!DOCTYPE html>\n<html lang="en">{head}\n{body}\n</html>\n'


def _summary(record: RunRecord) -> Iterator[Markup]:
    """Yield what was trained, on what, and when."""
    state, started = record.state, next(iter(record.all(Started)), None)  # later ones are resumes and rollbacks
    names = [] if record.config is None else [record.config.model.name]
    names += [f"{state.n_parameters:,} parameters"] if state.n_parameters else []
    names += [f"data set {state.dataset}"] if state.dataset else []
    names += [f"{state.device}, {state.dtype}"] if state.device else []
    yield element("p", " · ".join(names), class_="quiet")
    if state.alive and started is not None:
        yield element("p", f"This page has the run as it was on {_day(time.time())}: it was still being trained.")
    elif started is not None and state.updated:
        yield element("p", f"Started {_day(started.time)}, ended {_day(state.updated)}.", class_="quiet")
    for text in filter(None, (state.message, *state.problems)):
        yield element("p", text, class_="warning")


def _figures(record: RunRecord) -> Iterator[Markup]:
    """Yield the figures at the top, those that are known."""
    state, tokens = record.state, record.steps["tokens"]
    figures = {
        "best validation loss": _loss(state.best_val_loss),
        "bits per byte": _loss(state.best_val_loss_in("bits per byte")),
        "perplexity": "" if state.best_val_loss is None else significant(state.best_val_loss_in("perplexity") or 0),
        "steps": f"{state.step:,}" + (f" of {state.max_iters:,}" if state.alive else ""),
        "tokens": label(tokens[-1]) if tokens else "",
        "training time": "" if state.elapsed_s is None else duration(state.elapsed_s),
        "tokens per second": "" if state.tokens_per_second is None else f"{state.tokens_per_second:,.0f}",
        "MFU": "" if state.mfu is None else f"{state.mfu:.1%}",
    }
    for name, value in figures.items():
        if value:
            yield element("div", element("dt", name), element("dd", value), class_="card")


def _samples(samples: Sequence[Sampled]) -> Iterator[Markup]:
    """Yield the last sample, and earlier ones to open, the newest first."""
    if not samples:
        return
    yield element("h2", "Samples")
    for number, sample in enumerate(evenly(samples[::-1], SAMPLES)):
        text = element("pre", element("b", sample.prompt), _shortened(sample.text))
        title = element("summary", f"step {sample.step:,}")
        opened = {"open": ""} if number == 0 else {}
        yield element("details", title, text, class_="card", **opened)


def _spikes(spikes: Sequence[Spike]) -> Iterator[Markup]:
    """Yield the spikes with the texts of their batches, the newest first."""
    if not spikes:
        return
    yield element("h2", "Spikes")
    if len(spikes) > SPIKES:
        yield element("p", f"The last {SPIKES} of {len(spikes):,}.", class_="quiet")
    for spike in reversed(spikes[-SPIKES:]):
        texts = [
            element("pre", element("b", f"loss {loss:.3f}  "), _shortened(text))
            for text, loss in zip(spike.texts, spike.text_losses, strict=False)
        ]
        yield element("details", element("summary", describe(spike)), *texts, class_="card")


def _layers(record: RunRecord) -> Iterator[Markup]:
    """Yield the health of the layers over time and at the last measurement."""
    measured = record.all(LayerHealth)
    if not measured:
        return
    yield element("h2", "Layers")
    drawing = heat_map(measured)
    if drawing is not None:
        yield element("div", drawing, class_="card wide")
    table = element("div", layer_table(measured[-1]), class_="scroll")
    yield element("details", element("summary", f"measured at step {measured[-1].step:,}"), table, class_="card")


def _settings(record: RunRecord) -> Iterator[Markup]:
    """Yield the settings by section, those that are not defaults marked, and the versions and the hardware."""
    yield element("h2", "Settings")
    tables: list[Markup] = []
    if record.config is None:
        yield element("p", "The settings of this run cannot be read.", class_="warning")
    else:
        yield element("p", "Settings that are not defaults stand out.", class_="quiet")
        sections: dict[str, list[Markup]] = {}
        known = record.config.settings()
        for name, value in record.config.values().items():
            style = {} if value == known[name].default else {"class_": "changed"}
            row = element("tr", element("td", name), element("td", _setting(value)), **style)
            sections.setdefault(known[name].section, []).append(row)
        tables += [_table(section, rows) for section, rows in sections.items()]
    shown = {name: str(value) for name, value in record.facts.items() if name not in UNSHOWN}
    facts = [element("tr", element("td", name), element("td", value)) for name, value in shown.items()]
    if facts:
        tables.append(_table("run", facts))
    yield element("div", *tables, class_="card settings")
    notices = dict.fromkeys(event.text for event in record.all(Notice) if event.level != "info")
    if notices:
        yield element("h2", "Warnings")
        yield element("div", *(element("p", text) for text in list(notices)[:SPIKES]), class_="card")


def _setting(value: object) -> str:
    if value is None or value == "":
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(title: str, rows: Iterable[Markup]) -> Markup:
    return element("table", element("tr", element("th", title), element("th", "")), *rows)


def _shortened(text: str) -> str:
    left_out = len(text) - LONGEST_TEXT
    return text if left_out <= 0 else f"{text[:LONGEST_TEXT]} … ({counted(left_out, 'character')} more)"


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _day(seconds: float) -> str:
    """Return a time since 1970 as date and time of day; a dash for one that no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "–"
