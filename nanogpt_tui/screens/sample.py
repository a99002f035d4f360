"""The Sample screen."""

from nanogpt_tui.screens.base import LabScreen


class SampleScreen(LabScreen):
    HELP = "Sample"
