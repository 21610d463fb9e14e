"""What happens to events: pure cores (`core`, `rules`, folds) and the one shell that runs them all.

`step` says what a processor is; `partition` runs one over a partition; `agent` binds it to a Faust app. Processors
never import one another: they meet at topics, and `topology` hands each its ports.
"""
