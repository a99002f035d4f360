"""The commands that the main process takes, applied by all processes of a training at the same step boundary."""

from nanogpt.training.control import Command, RemoteCommand, from_json, to_json
from nanogpt.training.distributed import World, broadcast_numbers, broadcast_text


def share_commands(commands: list[Command], is_waiting: bool, world: World) -> tuple[list[Command], bool, bool]:
    """Return the commands to apply, and of the main process: whether it has any, and whether it has a reason to wait.

    commands, is_waiting: of this process; only the main one's count. Its commands come from other processes, so none is
    a `Copy`, which has no JSON. One broadcast of three numbers a step, and of the commands' JSON if there are any.
    """
    if world.size == 1:
        return commands, bool(commands), is_waiting
    text = "\n".join(to_json(command) for command in commands if isinstance(command, RemoteCommand))
    n_bytes, has_commands, main_waits = broadcast_numbers((len(text.encode()), bool(commands), is_waiting), world)
    if n_bytes:
        text = broadcast_text(text, n_bytes, world)
    if not world.is_main:
        commands = [from_json(line) for line in text.split("\n")] if n_bytes else []
    return commands, bool(has_commands), bool(main_waits)
