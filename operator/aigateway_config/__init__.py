"""The library for gateway pods: the documents they read, defined once for writer and reader.

Never imports the operator. `documents` is the contract; sources, watcher and the status listener build on it.
"""
