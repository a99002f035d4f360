"""The form of a new run and its widgets."""
