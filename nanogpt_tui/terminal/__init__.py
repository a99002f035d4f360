"""The terminal: the driver, the differential renderer, signals, daemonizing, ASCII."""
