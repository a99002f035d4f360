"""What forked processes have imported: the engine with torch, and the app. It starts no thread and computes nothing."""

from importlib import import_module

for _name in ("pytest", "nanogpt.cli.train", "nanogpt.runs.launch", "nanogpt.training.loop", "nanogpt_tui.app"):
    import_module(_name)
