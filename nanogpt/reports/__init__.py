"""Reports of a run: what it recorded, as tables and curves for other programs, and as a page for a browser."""
