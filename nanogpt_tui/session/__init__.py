"""The session: worker threads, the runs that are followed, generation, and what is stored between starts."""
