"""The Data screen and its widgets."""
