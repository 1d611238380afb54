"""Copies what a running predictor needs from the whole root to /image, and nothing else.

The image then has Python, the libraries that it and the packages are linked with, and the certificates:
no shell, no package manager, no Perl. Run in a stage that has all packages, with the Python of the image.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

TARGET = Path("/image")
VENV = Path("/opt/slipway")
# Below the standard library: its own tests, what shows windows, what installs, and modules that drag in a
# library of the system for what no server does.
STDLIB_LEFT_OUT = (
    "test", "tests", "unittest", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "ensurepip",
    "distutils", "venv", "pydoc_data", "config-*", "site-packages", "dist-packages", "__pycache__",
    "sitecustomize.py", "lib-dynload/_tkinter*", "lib-dynload/nis*", "lib-dynload/*dbm*",
    "lib-dynload/readline*", "lib-dynload/_curses*", "lib-dynload/_codecs_*", "lib-dynload/*test*",
)  # fmt: skip
# Below the environment. onnxruntime's second library is that of programs in C; Flight is a protocol
# between databases; the rest makes or changes models, or builds on a package in C.
PACKAGES_LEFT_OUT = (
    "onnxruntime/capi/libonnxruntime.so*", "onnxruntime/transformers", "onnxruntime/quantization",
    "onnxruntime/tools", "onnxruntime/backend", "onnxruntime/datasets",
    "pyarrow/*flight*", "pyarrow/src", "pyarrow/includes", "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*", "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/_csv.*", "pyarrow/_json.*", "pyarrow/_orc.*", "pyarrow/_dataset_orc.*", "pyarrow/_feather.*",
    "pyarrow/_hdfs.*", "pyarrow/_substrait.*",
    "numpy/f2py", "numpy/distutils", "numpy/_core/include", "numpy/_core/lib", "numpy/_core/_simd.*",
    "*.pyx", "*.pxi", "*.pxd", "*.pyi",
)  # fmt: skip
# Of the system: who a process is, how names are found, whom to trust, and the locale of Python.
SYSTEM = (
    "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release", "/usr/lib/os-release",
    "/etc/debian_version", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl", "/usr/lib/ssl",
    "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/locale/C.utf8",
)  # fmt: skip


def main() -> None:
    """Fills the target."""
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            copy_link(Path("/", name))
    stdlib = Path(sysconfig.get_path("stdlib"))
    taken = [*copy_tree(stdlib, STDLIB_LEFT_OUT), *copy_tree(VENV, PACKAGES_LEFT_OUT)]
    taken.append(copy(Path(sys.executable)))
    for path in map(Path, SYSTEM):
        if path.is_dir() and not path.is_symlink():
            taken += copy_tree(path, ())
        elif os.path.lexists(path):
            taken.append(copy(path))
    for library in linked(taken):
        taken.append(copy(library))
    copy_records({within_usr(path) for path in taken})
    compile_all = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    # As the files will lie in the image. A few files of the standard library are no valid Python.
    below = ["-s", str(TARGET), "-p", "/", str(TARGET / stdlib.relative_to("/"))]
    subprocess.run([*compile_all, *below], check=False, stdout=subprocess.DEVNULL)
    (TARGET / "tmp").mkdir()
    (TARGET / "tmp").chmod(0o1777)
    subprocess.run(["/sbin/ldconfig", "-X", "-r", str(TARGET)], check=True)
    # What ldconfig remembers, with today's date.
    shutil.rmtree(TARGET / "var" / "cache", ignore_errors=True)


def copy_tree(root: Path, left_out: Iterable[str]) -> list[Path]:
    """Copies a folder but for paths that match a pattern; gives the files that were copied."""
    copied = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not matches(root, here / name, left_out))
        for name in [*folders, *sorted(files)]:
            path = here / name
            if (path.is_symlink() or name in files) and not matches(root, path, left_out):
                copied.append(copy(path))
    return copied


def matches(root: Path, path: Path, patterns: Iterable[str]) -> bool:
    """Whether a path, or the part of it below site-packages, is left out."""
    below = str(path.relative_to(root)).split("site-packages/")[-1]
    return any(
        fnmatch.fnmatchcase(below, pattern)
        or ("/" not in pattern and fnmatch.fnmatchcase(path.name, pattern))
        for pattern in patterns
    )


def copy(path: Path) -> Path:
    """Copies a file, and where it is a link, the link and what it leads to; gives the file."""
    while path.is_symlink():
        copy_link(path)
        path = Path(os.path.normpath(path.parent.resolve() / path.readlink()))
    if path.is_file():
        target = TARGET / path.resolve().relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target)
    return path


def copy_link(path: Path) -> None:
    """Copies a link as a link."""
    target = TARGET / path.parent.resolve().relative_to("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(target):
        target.symlink_to(path.readlink())


def linked(files: Iterable[Path]) -> Iterator[Path]:
    """The libraries of the system that programs and libraries are linked with."""
    binaries = sorted({str(f) for f in files if f.is_file() and is_elf(f)})
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    found = {Path(name) for name in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}
    return (path for path in sorted(found) if not path.is_relative_to(VENV))


def copy_records(files: set[str]) -> None:
    """Writes of each Debian package with a file here what a scanner reads, and copies its licence.

    Args:
        files: as `within_usr` has them.
    """
    records = TARGET / "var" / "lib" / "dpkg" / "status.d"
    records.mkdir(parents=True)
    for listing in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
        if files.isdisjoint(within_usr(Path(line)) for line in listing.read_text().splitlines()):
            continue
        name = listing.stem
        query = ["dpkg-query", "--status", name]
        said = subprocess.run(query, check=True, capture_output=True, text=True).stdout
        package = name.split(":")[0]
        (records / package).write_text(said)
        licence = Path("/usr/share/doc", package, "copyright")
        if licence.exists():
            copy(licence)


def within_usr(path: Path) -> str:
    """A path by one name: Debian's lists say /lib for what lies in /usr/lib."""
    return re.sub(r"^/(?=(bin|sbin|lib\w*)/)", "/usr/", str(path))


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a library."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


if __name__ == "__main__":
    main()
