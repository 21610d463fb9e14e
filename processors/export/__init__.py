"""Windows of the log in open formats: MCAP, Rerun, JSON Lines, MP4 and Parquet.

`window` says what is asked for, `moments` gives its events in append order, `stories` gives each frame with all that came
of it. One module a format writes files from either. Nothing here writes to the log, the views or the blob store.
"""
