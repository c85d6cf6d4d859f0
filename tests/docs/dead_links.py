"""Follows every link within a built guide; those to other sites are left alone. `dead_links.py FOLDER`"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def main(folder):
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    assert len(pages) > 10, f"there is no guide in {folder}"
    followed, dead = 0, []
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or path.name in ("404.html", "toc.html"):
                continue
            followed += 1
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].names:
                dead.append(f"{path.relative_to(folder.resolve())}: {link}")
    print(f"{len(pages)} pages, {followed} links followed, {len(dead)} dead")
    return "\n".join(dead)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])) or 0)
