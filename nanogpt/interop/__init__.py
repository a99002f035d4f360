"""Other programs' formats, read and written: one file each. Knows nothing of screens."""
