"""The engine: from raw text to generated text. Knows nothing of screens.

The names below load on first use: importing torch takes seconds, and `nanogpt --help` shall not wait for it.
"""

__version__ = "0.1.0"
