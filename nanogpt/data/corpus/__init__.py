"""Data sets from corpora of documents, in bounded memory, which continue after a kill.

    shards ──► download ──► reader process ──► worker processes ──► window ──► token files, progress.json
               fetch.py     worker.py          worker.py            window.py  unfinished.py

One process reads the documents in order and the others encode blocks of them. This process takes the blocks in order,
drops duplicates, shuffles the documents of a window and alone writes to disk, so the output does not depend on the
number of workers. After each window everything is committed; a later call with the same settings continues there.
"""
