"""What README and guide say: links lead somewhere, and every command is one that is run."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "src"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "bindings").glob("*/README.md")),
    *sorted(GUIDE.glob("*.md")),
]
EXAMPLES = "tests/e2e/test_examples.py"

# Each command that is no make target, as a pattern, and the test that runs what it names.
RUN_BY = {
    r"cargo run --release -p embed-file -- talk\.mp4 out": (EXAMPLES, "test_a_file_becomes_an_hls_folder_and_a_transcript"),
    r"cargo run --release -p transcribe -- talk\.mp4 --format (vtt|txt)": (EXAMPLES, "test_a_file_becomes_text"),
    r"curl -sX POST .*": (EXAMPLES, "test_the_requests_of_the_guide_are_answered"),
    r"cargo build --release -p loom-ffi": ("tests/e2e/test_python.py", "python"),
    r"pip wheel --no-deps -w dist bindings/python && pip install dist/\*\.whl": ("tests/e2e/test_python.py", "python"),
    r"npm pack \./bindings/node --pack-destination dist && npm install dist/loom-video-\*\.tgz": ("tests/e2e/test_node.py", "project"),
    r"cc -pthread -o host bindings/c/examples/host\.c \$\(pkg-config --cflags --libs loom\) -lm": ("tests/e2e/test_embedding.py", "host"),
    r"cargo run --release -p embed-(axum|hyper) -- 127\.0\.0\.1:8081": (EXAMPLES, "test_a_publisher_is_recorded_and_watched"),
    r"cargo run --release -p embed-custom -- 127\.0\.0\.1:8081 data alice=SECRET": (EXAMPLES, "test_a_store_a_token_check_and_a_transcriber_of_the_programs_own"),
    r"cargo run --release -p embed-draw -- out 10": (EXAMPLES, "test_pictures_that_a_program_draws_become_an_hls_folder"),
    r"ffmpeg -re .* -f h264 - \| cargo run --release -p embed-pipe -- out 30": (EXAMPLES, "test_a_pipe_becomes_an_hls_folder_and_an_mp4"),
    r"ffmpeg -re .* -f s16le - \| cargo run --release -p embed-captions": (EXAMPLES, "test_sound_on_a_pipe_is_written_down_as_it_comes"),
}


def blocks(page, languages):
    """The fenced blocks of these languages, and where each begins."""
    text = page.read_text()
    for found in re.finditer(r"^ *```([^\n`]*)\n(.*?)^ *```$", text, re.M | re.S):
        if found[1].split(",")[0].strip() in languages:
            yield found[2], f"{page.relative_to(ROOT)}:{text[:found.start()].count(chr(10)) + 1}"


def targets():
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))


def commands():
    for page in PAGES:
        for block, where in blocks(page, ("sh", "console", "bash")):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"\s+# .*", "", line.strip().removeprefix("$ ")).strip()
                if line and not line.startswith("#"):
                    yield line, where


def test_every_command_is_a_make_target_or_run_by_a_test():
    found = list(commands())
    assert len(found) > 10, found
    unknown, used = [], set()
    for line, where in found:
        made = re.fullmatch(r"(?:[A-Z_]+=\S+ )*make ([a-z0-9-]+)(?: [A-Z_]+=\S+)*", line)
        known = [pattern for pattern in RUN_BY if re.fullmatch(pattern, line)]
        used.update(known)
        if not known and not (made and made[1] in targets()):
            unknown.append(f"{where}: {line}")
    assert not unknown, "neither a make target nor run by a test:\n" + "\n".join(unknown)
    assert used == set(RUN_BY), f"nobody says {set(RUN_BY) - used} any more"


def test_every_target_that_is_named_in_passing_exists():
    named = {
        (target, page.name)
        for page in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "benches" / "RESULTS.md")
        for target in re.findall(r"`(?:[A-Z_0-9]+=[^\s`]+ )*make ([a-z0-9-]+)[ `]", page.read_text())
    }
    assert len(named) > 20, named
    assert not [it for it in named if it[0] not in targets()]


@pytest.mark.parametrize("pattern", RUN_BY)
def test_what_is_said_to_run_a_command_does(pattern):
    path, name = RUN_BY[pattern]
    text = (ROOT / path).read_text()
    assert f"def {name}(" in text, f"{path} has no {name}"


def test_no_block_is_left_without_a_language():
    """An indented or a bare block would pass by the tests above."""
    bare = [where for page in PAGES for _, where in blocks(page, ("",)) if page.name not in ("ARCHITECTURE.md",)]
    assert not bare, bare
    indented = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in PAGES
        for line in re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S).splitlines()
        if re.match(r"    (make|cargo|pip|curl|docker|apt)\b", line)
    ]
    assert not indented, indented


def anchors(page):
    """As GitHub and mdBook name headings."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"`", "", head)).strip().lower().replace(" ", "-") for head in heads}


def test_every_link_leads_somewhere():
    dead = []
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.M):
            if re.match(r"[a-z]+:", link):
                continue  # another site
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            inside = GUIDE in target.parents if GUIDE in page.parents else True
            if not target.exists() or not inside:
                dead.append(f"{page.relative_to(ROOT)}: {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                dead.append(f"{page.relative_to(ROOT)}: {link}")
    assert not dead, dead


def test_the_guide_lists_every_page_once():
    listed = re.findall(r"\]\(([^)]+)\)", (GUIDE / "SUMMARY.md").read_text())
    assert sorted(listed) == sorted(page.name for page in GUIDE.glob("*.md") if page.name != "SUMMARY.md")


def test_nginx_takes_the_configuration(tmp_path):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx or not shutil.which("openssl"):
        pytest.skip("NO NGINX or no openssl: the guide's configuration was not tried")
    site, cache = [block for block, _ in blocks(GUIDE / "deploying.md", ("nginx",))]
    key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=loom.example", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    text = f"{cache}\n{site}".replace("/etc/ssl/loom", str(tmp_path)).replace("/var/cache/nginx/loom", str(tmp_path / "cache"))
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr)
    if tuple(map(int, version.groups())) < (1, 25, 1):
        text = text.replace("listen 443 ssl;\n    http2 on;", "listen 443 ssl http2;")  # as older ones say it
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\nerror_log {tmp_path}/errors;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n")
    tried = subprocess.run([nginx, "-t", "-p", tmp_path, "-c", file], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
