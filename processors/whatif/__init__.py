"""What if: a past window read by another release or with other parameters, beside what was recorded. Writes nothing.

`replay` takes each frame through the same pure cores as live work does, `match` tells the two readings of a frame apart,
`tally` counts, `page` and `pictures` show.
"""
