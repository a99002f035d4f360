"""The experiments of the lessons: one module each, found by its name (see `nanogpt.learn.experiment`)."""
