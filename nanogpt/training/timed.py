"""Train for a fixed time: models of different speeds compare, and each one's learning rate reaches its end."""

from collections.abc import Generator, Mapping
from contextlib import closing

from nanogpt.config import Config, with_settings
from nanogpt.data.token_files import Tokens
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Finished, Health, Step
from nanogpt.training.control import CommandQueue, SetMaxIters, Stop
from nanogpt.training.snapshot import Snapshot
from nanogpt.training.train_run import train


def train_for(config: Config, tokens: Mapping[str, Tokens], seconds: float) -> Generator[Event, None, Snapshot]:
    """Train for `seconds` of wall time, yield the events of the training, and return its last state. Writes no files.

    After each step max_iters is set to step · seconds / elapsed, so that the schedule follows the share of the time
    that has passed. The time begins once the model is built; nothing is evaluated, saved or sampled within it, and
    nothing is compiled, which would take a part of it. A counted model takes the time that counting takes.
    tokens: as for `train`. Closing the iterator cancels. Raise `UserError`, also if the loss diverges.
    """
    commands, snapshots = CommandQueue(), list[Snapshot]()

    def save(snapshot: Snapshot, is_best: bool) -> str:
        snapshots.append(snapshot)
        return ""

    endless = {"max_iters": 10**9, "eval_interval": 10**12, "eval_iters": 1, "sample_interval": 0, "log_interval": 1}
    config = with_settings(config, endless | {"compile": "false", "processes": 1})
    is_counted, problem = config.model.capabilities.counted, "its loss is not finite"
    with closing(train(config, tokens, commands=commands, save=save)) as events:
        for event in events:
            if isinstance(event, Step) and not is_counted:
                # Above the next step, because the last step is for the time to choose.
                last = max(event.step + 2, round(event.step * seconds / event.elapsed_s))
                commands.put(Stop(save=True) if event.elapsed_s >= seconds else SetMaxIters(last))
            if isinstance(event, Health) and event.state == "nan":
                problem = event.message
            if isinstance(event, Finished) and event.reason == "nan":
                raise UserError(problem)
            if not isinstance(event, Acknowledged):
                yield event
    return snapshots[-1]
