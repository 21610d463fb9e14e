"""A view as a step of the shell: it asks nothing, decides nothing, and keeps the fold."""

from typing import Any, Generic, TypeVar

from processors.views.catalogue import View

S = TypeVar("S")


class ViewStep(Generic[S]):
    """Keeps one view up to date. Its state in the view store is the view."""

    def __init__(self, view: View[S]) -> None:
        self._view = view
        self.name = view.name
        self.topic = view.topic
        self.state_type = view.state_type
        self.initial = view.initial

    def key(self, event: Any) -> str | None:
        return self._view.key(event)

    def fold(self, state: S, event: Any) -> S:
        return self._view.fold(state, event)
