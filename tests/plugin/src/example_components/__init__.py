"""One component of each kind, each in one file."""
