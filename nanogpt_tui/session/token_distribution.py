"""The probability distribution that a token was sampled from, before and after the knobs, computed again on request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative
from nanogpt_tui.session.completions import Completion
from nanogpt_tui.session.generation_job import ALTERNATIVES, ModelCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from textual.timer import Timer

    from nanogpt_tui.session.session import Session

CURSOR_REST_S = 0.15  # how long the cursor must stay on a token before the model is run


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The model's prediction at one position of a text.

    `logits` (1, V); `present` (1, V), whether the text so far contains each token, for the repetition penalty; `top`,
    the most likely tokens before the knobs, best first.
    """

    logits: "NDArray[np.float32]"
    present: "NDArray[np.bool_]"
    top: tuple[Alternative, ...]

    def probabilities(self, knobs: SamplingConfig) -> "NDArray[np.float32]":
        """Return the probability of each token with these knobs, (V,)."""
        from nanogpt.sampling import distribution

        probabilities: NDArray[np.float32] = distribution(self.logits, knobs, self.present)[0]
        return probabilities


def compute_distribution(models: ModelCache, completion: Completion, index: int) -> Distribution | None:
    """Return the distribution that token `index` was sampled from, or None if its weights no longer exist.

    Where later live weights continued a text, those of the tokens before do not. Runs the model: call it in a thread.
    Raise `UserError` if the weights cannot be read.
    """
    import numpy as np

    from nanogpt.sampling import next_logits

    loaded = models.load_exact(completion) if index >= completion.weights_since else None
    if loaded is None:
        return None
    logits, present = next_logits(
        loaded.model, loaded.tokenizer, completion.prompt, [token.id for token in completion.tokens[:index]]
    )
    probabilities = np.exp(logits[0] - logits[0].max())
    probabilities /= probabilities.sum()
    top = [
        Alternative(each, loaded.tokenizer.token_bytes(each).decode("utf-8", "replace"), float(probabilities[each]))
        for each in (-probabilities).argsort()[:ALTERNATIVES].tolist()
    ]
    return Distribution(logits, present, tuple(top))


class DistributionLookup:
    """Compute the distribution of the requested token after the request has not changed for CURSOR_REST_S.

    `distribution` is None until then, and if the weights no longer exist. `changed` is called when it is set.
    """

    def __init__(
        self,
        session: "Session",
        models: ModelCache,
        set_timer: "Callable[[float, Callable[[], None]], Timer]",
        changed: Callable[[], None],
    ) -> None:
        self._session, self._models, self._set_timer, self._changed = session, models, set_timer, changed
        self._requested: tuple[Completion, int] | None = None
        self.distribution: Distribution | None = None

    def request(self, completion: Completion | None, index: int | None) -> None:
        """Ask for the distribution of token `index`; None for no token."""
        new = (completion, index) if completion is not None and index is not None else None
        old = self._requested
        if old and new and old[0] is new[0] and old[1] == new[1]:
            return
        self._requested, self.distribution = new, None
        if new is not None:
            self._set_timer(CURSOR_REST_S, lambda: self._compute(new))

    def _compute(self, request: tuple[Completion, int]) -> None:
        def show(found: Distribution | None, error: str) -> None:
            if request is self._requested:  # after an error the screen shows the stored probabilities only
                self.distribution = found
                self._changed()

        if request is self._requested:
            self._session.fetch(lambda: compute_distribution(self._models, *request), show, "distribution")
