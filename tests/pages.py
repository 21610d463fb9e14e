"""Holding pages to what every page of Hindsight promises: well formed, self-contained, with no way to run or load anything."""

from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "link", "input", "col", "source", "wbr", "area", "base", "embed", "track"}
_LOADS = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}


class PageReader(HTMLParser):
    """What is on a page: its text, its images, and everything that is wrong with it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.troubles: list[str] = []
        self.images: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if len(named) != len(attrs):
            self.troubles.append(f"<{tag}> has an attribute twice: {attrs}")
        self.troubles += [f"<{tag}> has {name}" for name in named if name.startswith("on")]
        self.troubles += [
            f"<{tag}> loads {named[n][:80]}" for n in _LOADS & named.keys() if not named[n].startswith(("data:image/", "#"))
        ]
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "img":
            self.images.append(named)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.troubles.append(f"</{tag}> closes {self._open[-1:]}, line {self.getpos()[0]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data


def read_page(html: str) -> PageReader:
    """Read a page, and hold it to the rules."""
    reader = PageReader()
    reader.feed(html)
    reader.close()
    reader.troubles += [f"<{tag}> is never closed" for tag in reader._open]
    reader.troubles += [f"there is a <{tag}>" for tag in reader.tags & {"script", "iframe", "object", "embed", "link", "base"}]
    reader.troubles += ["an image has no text" for image in reader.images if not image.get("alt")]
    reader.troubles += ["an id stands twice"] if len(set(reader.ids)) != len(reader.ids) else []
    if "url(" in html or "@import" in html:
        reader.troubles.append("a style loads something")
    if not html.lstrip().lower().startswith("<!doctype html>"):
        reader.troubles.append("no doctype")
    return reader
