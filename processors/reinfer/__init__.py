"""Verified re-inference: reads a frame again with the models that were in force, and judges. Writes nothing.

`compare` says what differs and how much, `causes` why, `rates` how often; `again` runs it on a `Past` and `Models`.
"""
