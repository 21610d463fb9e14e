"""Snapshots of views: a state at a position in the blob store, so that looking back need not read the log from its start.

A snapshot is a small manifest that names pieces (`manifest`); each piece holds the states of the keys whose hash falls into
one bucket (`pieces`). A new one folds the tail of the log onto the one before it and writes the touched pieces only
(`taking`); `SnapshotTaken` on vision.monitoring announces it (`announcing`). `reading` finds the best one for a question
and falls back when it is damaged or gone; `thinning` says which are kept; `checking` holds them against the log.

The log stays the truth: a snapshot is made from the log only, and can be thrown away and taken again.
"""
