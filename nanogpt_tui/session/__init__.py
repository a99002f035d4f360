"""The session: worker threads, the runs that the app follows, text generation, and the stored texts."""
