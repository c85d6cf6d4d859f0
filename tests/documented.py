"""What README and guide tell a reader to type. A test takes a command from its page by `documented` and runs it as it stands there, but for
paths, ports and the program; `tests/docs` holds that every command is taken by a test, or is what a make target runs."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "src"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "bindings").glob("*/README.md")),
    *sorted(GUIDE.glob("*.md")),
]
FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.M | re.S)
# What begins a command where it stands in the middle of a sentence; a name alone is no command.
TOOLS = r"(\[?[A-Z_]+=\S+ )*(\S*/)?(cargo|rustup|pytest|python3?|npm|npx|pip3?|scripts/\S+|gst-\S+|ffmpeg|ffprobe|curl|cc|install|sudo|apt|apt-get|docker) \S"
# Named for what a test reads, and not to be typed.
NAMED = {"cargo tree"}

# Whether programs are built and run as the page says, which takes long, or those that are built already are taken. `make commands` sets it.
AS_DOCUMENTED = os.environ.get("LOOM_AS_DOCUMENTED") == "1"
# Seconds that such a build may take.
BUILDING = 3600 if AS_DOCUMENTED else 0


def blocks(page, *languages):
    """The fenced blocks of these languages, and where each begins."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found[1].split(",")[0].strip() in languages:
            yield found[2], f"{page.relative_to(ROOT)}:{text[:found.start()].count(chr(10)) + 1}"


def commands(page):
    """Every command of a page, and where it stands: lines of `sh` blocks, and what looks like one in a sentence."""
    for block, where in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s+)# .*", "", line.strip()).strip()
            if line:
                yield line, where
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
        line = " ".join(found[1].split())
        if re.match(TOOLS, line) and line not in NAMED:
            yield line, f"{page.relative_to(ROOT)}:{text[:found.start()].count(chr(10)) + 1}"


def documented(page, words):
    """The one command of a page that has these words."""
    found = {line for line, _ in commands(ROOT / page) if words in line}
    assert len(found) == 1, f"{page} has {len(found)} commands with {words}: {found}"
    return found.pop()


def as_run(line, programs):
    """A line with `cargo run` as it is run from another folder: by cargo, or where that was not asked for by the program of that name in
    the folder `programs`."""
    if AS_DOCUMENTED:
        manifest = shlex.quote(str(ROOT / "Cargo.toml"))
        return re.sub(r"cargo run --release -p [\w-]+", rf"\g<0> --manifest-path {manifest}", line)

    def built(found):
        path = programs / found[1]
        assert path.exists(), f"there is no {path}: cargo build --workspace --bins"
        return shlex.quote(str(path))

    return re.sub(r"cargo run --release -p ([\w-]+)( --(?= |$))?", built, line)


def put_release(built, tree):
    """Puts a file that cargo has built where `cargo build --release` would in a copy of the repository. Like a release it has nothing for
    debuggers, which takes longer to be packed than all else."""
    folder = tree / "target" / "release"
    folder.mkdir(parents=True)
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-debug", "-o", folder / built.name, built], check=True)
    else:
        shutil.copy(built, folder)
