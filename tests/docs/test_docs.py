"""What README and guide say: links lead somewhere, and every command is one that is run."""

import ast
import pathlib
import re
import shutil
import subprocess

import pytest

import documented
from documented import FENCE, GUIDE, PAGES, ROOT, TOOLS, blocks

# In what the pages' blocks are written. Of these `sh` alone has what is typed; an ini file, nginx's, JavaScript and Python are run by tests.
LANGUAGES = {"sh", "http", "rust", "js", "python", "ini", "nginx"}


def makefile():
    return (ROOT / "Makefile").read_text()


def targets():
    return set(re.findall(r"^([a-z][a-z0-9-]*):", makefile(), re.M))


def recipe_lines():
    """Every line that a target runs as it stands."""
    return {line for line in re.findall(r"^\t@?(.*)$", makefile(), re.M) if "$" not in line}


def is_make(line):
    made = re.fullmatch(r"(?:[A-Z_]+=\S+ )*make ([a-z0-9-]+)(?: [A-Z_]+=\S+)*", line)
    return line in recipe_lines() or bool(made) and made[1] in targets()


def is_run(node):
    """Whether pytest runs this function: a test or a fixture."""
    fixture = any("fixture" in ast.unparse(it) for it in getattr(node, "decorator_list", ()))
    return isinstance(node, ast.FunctionDef) and (node.name.startswith("test_") or fixture)


def taken():
    """(where, page, words) of each command that a test takes from its page by `documented`."""
    found, wrong = [], []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text())
        is_call = lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in ("documented", "documented.documented")
        within = {call for function in tree.body if is_run(function) for call in ast.walk(function) if is_call(call)}
        unused = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for call in filter(is_call, ast.walk(tree)):
            where = f"{file.relative_to(ROOT)}:{call.lineno}"
            said = [it.value for it in call.args if isinstance(it, ast.Constant)]
            if call in within and call not in unused and len(said) == 2:
                found.append((where, *said))
            elif file != pathlib.Path(__file__):
                wrong.append(where)
    assert not wrong, f"no test takes a page's command here, and names both, to run it: {wrong}"
    return found


def test_every_command_is_a_make_target_or_run_by_a_test():
    found = [(line, where) for page in PAGES for line, where in documented.commands(page)]
    assert len(found) > 10, found
    run = {documented.documented(page, words) for _, page, words in taken()}
    unknown = [f"{where}: {line}" for line, where in found if line not in run and not is_make(line)]
    assert not unknown, "neither run by a test nor by make:\n" + "\n".join(unknown)


def test_what_looks_like_a_command_is_taken_for_one(tmp_path, monkeypatch):
    """No test holds any of these, wherever they stand."""
    monkeypatch.setattr(documented, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    lines = ["cargo run -p a", "A=1 cargo test", "pytest tests", ".venv/bin/python -m a", "npm ci", "pip install a"]
    lines += ["scripts/setup all", "gst-launch-1.0 a", "ffmpeg -i a", "curl a"]
    said = "\n".join(f"Say `{line}`, or" for line in lines)
    page.write_text(f"{said}\n`cargo\nrun` is said.\n\n```sh\nmake a  # first\n# nothing\ncat \\\n  b\n```\n")
    assert sorted(line for line, _ in documented.commands(page)) == sorted([*lines, "cargo run", "make a", "cat    b"])
    assert not any(map(is_make, lines))


def test_every_target_that_is_named_in_passing_exists():
    named = {
        (target, page.name)
        for page in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "benches" / "RESULTS.md")
        for target in re.findall(r"`(?:[A-Z_0-9]+=[^\s`]+ )*make ([a-z0-9-]+)[ `]", " ".join(page.read_text().split()))
    }
    assert len(named) > 20, named
    assert not [it for it in named if it[0] not in targets()]


def test_every_block_is_in_a_language_that_is_known():
    """A block of another one, a bare or an indented one would pass by the tests above."""
    for page in PAGES:
        text = page.read_text()
        languages = {found[1].split(",")[0].strip() for found in FENCE.finditer(text)}
        # ARCHITECTURE.md draws the flow in one
        assert languages <= LANGUAGES | ({""} if page.name == "ARCHITECTURE.md" else set()), f"{page.relative_to(ROOT)}: {languages - LANGUAGES}"
        rest = FENCE.sub("", text)
        assert "```" not in rest and "~~~" not in rest, f"{page.relative_to(ROOT)} has a block that is not understood"
        indented = [line for line in rest.splitlines() if re.match(rf"(    |\t)(make \S|{TOOLS})", line)]
        assert not indented, f"{page.relative_to(ROOT)}: {indented}"


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
    site, cache = [block for block, _ in blocks(GUIDE / "deploying.md", "nginx")]
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
