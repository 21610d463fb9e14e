"""Which release reads: the model registry as an aggregate. Reads vision.commands, writes vision.releases.

`core` decides; `follower` keeps the newest state at hand for `infer`; `loader` makes Triton agree with the log.
"""
