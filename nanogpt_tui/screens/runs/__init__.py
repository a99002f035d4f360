"""The Runs screen and its widgets."""
