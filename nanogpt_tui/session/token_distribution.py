"""The distribution of one token of a text, before and after the knobs: read again from the weights that wrote it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative
from nanogpt_tui.session.completions import Completion
from nanogpt_tui.session.generation_job import ALTERNATIVES, ModelCache

if TYPE_CHECKING:
    from textual.timer import Timer

    from nanogpt_tui.session.session import Session

SETTLED_S = 0.15  # the cursor has to rest so long before the weights are asked


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """`logits` (1, V) of the weights and `seen` (1, V), the tokens that the text has already; `best` are the
    likeliest tokens by the model alone."""

    logits: Any
    seen: Any
    best: tuple[Alternative, ...]

    def after(self, knobs: SamplingConfig) -> Any:
        """The probability of each token (V) with these knobs."""
        from nanogpt.sampling import distribution

        return distribution(self.logits, knobs, self.seen)[0]


def read(models: ModelCache, completion: Completion, number: int) -> Distribution | None:
    """What token `number` of a take was drawn from; None where the weights that wrote it are gone. In a thread.

    Raises `UserError` for weights that cannot be read.
    """
    import numpy as np

    from nanogpt.sampling import next_logits

    loaded = models.that_wrote(completion)
    if loaded is None:
        return None
    logits, seen = next_logits(
        loaded.model, loaded.tokenizer, completion.prompt, [token.id for token in completion.tokens[:number]]
    )
    shares = np.exp(logits[0] - logits[0].max())
    shares /= shares.sum()
    best = [
        Alternative(each, loaded.tokenizer.token_bytes(each).decode("utf-8", "replace"), float(shares[each]))
        for each in (-shares).argsort()[:ALTERNATIVES].tolist()
    ]
    return Distribution(logits, seen, tuple(best))


class DistributionLookup:
    """Reads the distribution of the token that is wanted once that has been the same for a while; `found` is it."""

    def __init__(
        self,
        session: "Session",
        models: ModelCache,
        set_timer: "Callable[[float, Callable[[], None]], Timer]",
        changed: Callable[[], None],
    ) -> None:
        self._session, self._models, self._set_timer, self._changed = session, models, set_timer, changed
        self._wanted: tuple[Completion, int] | None = None
        self.found: Distribution | None = None

    def want(self, completion: Completion | None, number: int | None) -> None:
        wanted = (completion, number) if completion is not None and number is not None else None
        known = self._wanted
        if known and wanted and known[0] is wanted[0] and known[1] == wanted[1]:
            return
        self._wanted, self.found = wanted, None
        if wanted is not None:
            self._set_timer(SETTLED_S, lambda: self._read(wanted))

    def _read(self, wanted: tuple[Completion, int]) -> None:
        def show(found: Distribution | None, error: str) -> None:
            if wanted is self._wanted:  # without the weights there is the model's side alone, as it was written
                self.found = found
                self._changed()

        if wanted is self._wanted:
            self._session.fetch(lambda: read(self._models, *wanted), show, "distribution")
