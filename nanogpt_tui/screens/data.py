"""The Data screen."""

from nanogpt_tui.screens.base import LabScreen


class DataScreen(LabScreen):
    HELP = "Data"
