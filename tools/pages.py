"""What the built pages contain, read from their HTML."""

from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from tools.book import ROOT

HTML = ROOT / "_build" / "html"


@dataclass
class Page(HTMLParser):
    """The anchors, links and images of one page."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    images: list[dict[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the parser."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag defines and where it leads."""
        have = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := have.get(key))}
        if tag in ("a", "link", "img", "script"):
            self.links += [v for key in ("href", "src") if (v := have.get(key))]
        if tag == "img":
            self.images.append(have)


@cache
def read(path: Path) -> Page:
    """Parse one built page."""
    page = Page()
    page.feed(path.read_text())
    return page


def built() -> list[Path]:
    """Every page that was built."""
    files = HTML.rglob("*.html")
    return sorted(path for path in files if "_static" not in path.parts)


def broken_links(path: Path) -> list[str]:
    """The links of a page that lead to no file, or to no anchor in it."""
    broken = []
    for link in read(path).links:
        address, anchor = urldefrag(link)
        if urlsplit(address).scheme or address.startswith("//"):
            continue
        file = urlsplit(address).path
        target = (path.parent / unquote(file)).resolve() if file else path
        is_page = target.suffix == ".html" and target.is_file()
        if not target.exists() or (
            is_page and anchor and unquote(anchor) not in read(target).anchors
        ):
            broken.append(link)
    return broken
