"""One frame through a model that does nothing, as others would write it. Nothing of ours is imported by what runs there."""
