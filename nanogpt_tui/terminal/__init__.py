"""The terminal: the driver, the differential renderer, signals, input order, detaching from the shell, ASCII."""
