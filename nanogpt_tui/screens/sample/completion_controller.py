"""The completions of the Sample screen: all groups, which of them is shown, and the jobs that generate them."""

from collections.abc import Callable, Iterable
from functools import partial

from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative, Token
from nanogpt_tui.session import completion_store
from nanogpt_tui.session.completions import Completion, CompletionGroup
from nanogpt_tui.session.generation_job import GenerationJob, ModelCache
from nanogpt_tui.session.session import Session


class CompletionController:
    """`shown` is the index of the group on the screen, -1 or the number of groups if there is none on it.

    A group holds two completions where two checkpoints are compared; `side` shows one of them alone (0 or 1).
    """

    def __init__(
        self,
        session: Session,
        models: ModelCache,
        knobs: Callable[[], SamplingConfig],
        on_tokens: Callable[[GenerationJob], None],
        on_problem: Callable[[str], None],
    ) -> None:
        """`knobs` is called before each token. `on_tokens` is called in the interface's thread after new tokens and at
        the end of a completion, `on_problem` if a completion cannot be saved."""
        self.groups: list[CompletionGroup] = []
        self.shown = -1
        self.side: int | None = None
        self._session, self._models, self._knobs = session, models, knobs
        self._on_tokens, self._on_problem = on_tokens, on_problem
        self._jobs: list[GenerationJob] = []

    @property
    def current(self) -> CompletionGroup:
        """The completions on the screen."""
        group = self.groups[self.shown] if 0 <= self.shown < len(self.groups) else []
        return group if self.side is None else group[self.side : self.side + 1]

    def prepend(self, groups: list[CompletionGroup]) -> None:
        """Add the groups of earlier sessions; the one on the screen stays there."""
        self.shown = max(self.shown, 0) + len(groups)
        self.groups[:0] = groups

    def can_move(self, by: int) -> bool:
        """Return whether there is a group `by` places later (negative: earlier) than the one on the screen."""
        return self.shown >= 0 and 0 <= self.shown + by < len(self.groups)

    def move(self, by: int) -> None:
        """Show the group `by` places later."""
        self.shown, self.side = self.shown + by, None

    def show_none(self) -> None:
        """Show no group until the next one is added."""
        self.shown, self.side = len(self.groups), None

    def add(self, group: CompletionGroup) -> None:
        """Show a new group, and generate those of its completions that have not ended."""
        self.groups.append(group)
        self.shown, self.side = len(self.groups) - 1, None
        self.generate([completion for completion in group if not completion.reason])

    # ---- jobs

    def generate(self, completions: Iterable[Completion]) -> None:
        """Start or continue completions, each in a thread."""
        self._jobs = [job for job in self._jobs if not job.done]
        for completion in completions:
            self._jobs.append(GenerationJob(self._session, self._models, completion, self._knobs, self._receive))

    def is_generating(self, completion: Completion) -> bool:
        """Return whether a job is generating this completion."""
        return any(job.completion is completion and not job.done for job in self._jobs)

    def stop(self, group: CompletionGroup | None = None) -> None:
        """Stop generating, everything or the completions of `group`, and save what was generated."""
        for job in self._jobs:
            if not job.done and (group is None or any(job.completion is each for each in group)):
                job.stop()
                self._save(job.completion)

    def _receive(self, job: GenerationJob) -> None:
        if job.done:
            self._save(job.completion)
        self._on_tokens(job)

    def _save(self, completion: Completion) -> None:
        """Save the group of a completion for later sessions, unless this one is read-only."""
        if self._session.readonly:
            return
        for group in self.groups:
            if any(each is completion for each in group):
                self._session.write(partial(completion_store.append, list(group)), self._show_problem)

    def _show_problem(self, text: str) -> None:
        if text:
            self._on_problem(text)


def branched(completion: Completion, at: int, chosen: Alternative, knobs: SamplingConfig) -> Completion:
    """Return a new completion that shares the tokens before index `at` and continues from `chosen` in its place."""
    old = completion.tokens[at]
    token = Token(
        sample=0, id=chosen.id, text=chosen.text, probability=chosen.probability, alternatives=old.alternatives
    )
    return Completion(
        completion.prompt,
        completion.source,
        knobs,
        completion.run,
        completion.step,
        completion.val_loss,
        completion.device,
        vocab_size=completion.vocab_size,
        tokenizer=completion.tokenizer,
        tokens=[*completion.tokens[:at], token],
        branched_at=at,
        is_average=completion.is_average,
        first_step=completion.first_step,
        weights_since=min(completion.weights_since, at + 1),
    )
