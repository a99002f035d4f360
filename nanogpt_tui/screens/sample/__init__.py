"""The Sample screen and its widgets."""
