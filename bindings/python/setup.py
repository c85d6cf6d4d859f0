"""Puts the C library into the wheel: the one that LOOM_LIBRARY names, else target/release/libloom.so of this repository."""

import os
import pathlib
import shutil

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent


class Build(build_py):
    def run(self):
        super().run()
        library = pathlib.Path(os.environ.get("LOOM_LIBRARY", HERE.parents[1] / "target" / "release" / "libloom.so"))
        if not library.is_file():
            raise SystemExit(f"there is no C library at {library}: cargo build --release -p loom-ffi, or name one by LOOM_LIBRARY")
        shutil.copyfile(library, pathlib.Path(self.build_lib) / "loom" / "libloom.so")


class Wheel(bdist_wheel):
    """For any Python 3, but one platform."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(cmdclass={"build_py": Build, "bdist_wheel": Wheel})
