"""Making incident bundles: which records and blobs of a past belong into one, so that questions about its window have the
answers that the live log gives.

`wanted` keeps what was found to belong, on disk; `spans` says where each partition begins and ends, and which snapshots
states start from; `choosing` walks through the window for causes, blobs and schemas; `creating` writes the file.
"""
