"""The Runs screen."""

from nanogpt_tui.screens.base import LabScreen


class RunsScreen(LabScreen):
    HELP = "Runs"
