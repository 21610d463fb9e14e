"""One hop of the chain at a time, ours beside what a user would write with another framework."""
