"""The Azure Functions app as one zip, and the lock file it is built from.

    python tools/functionapp.py lock     resolve the dependencies anew, into functions/requirements.txt
    python tools/functionapp.py build    dist/functionapp-<version>.zip, and the wheel beside it

Needs the dependency group ``package``; `nox -s lock` and `nox -s package` bring it. The zip depends on
nothing but the checkout, the wheels that the lock file names by hash, and the release of Python that
compiles its bytecode: same inputs, same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "functions" / "requirements.txt"
NAME = "luxor-pipelines"

# The app's Python, which infra/main.bicep reads from the same file, and its machines: glibc 2.28 or later on x86-64.
_RUNTIME = json.loads((ROOT / "functions" / "python.json").read_text(encoding="utf-8"))
PYTHON: str = _RUNTIME["version"]
SUPPORTED_UNTIL = date.fromisoformat(_RUNTIME["supported_until"])
MANYLINUX = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS = [*MANYLINUX, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON}.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}

# An instance of the Flex Consumption plan has 0.8 GB of temporary storage, in which the package is unpacked;
# one of the older Consumption plan 0.5 GB. What is left is for the app's own temporary files.
UNPACKED_MAX = 450_000_000
ZIP_MAX = 200_000_000

TIMESTAMP = (1980, 1, 1, 0, 0, 0)
WWWROOT = "/home/site/wwwroot"
"""Folder of the app in Azure; tracebacks name files in it."""
UNUSED = re.compile(
    r"^(numpy|pandas|pyarrow)/(.+/)?(tests|include)/|^pyarrow/src/|\.(pyi|pxd|pxi|pyx|h|a)$"
    r"|^pyarrow/(_|lib\w*_)(flight|s3)\w*\."
)
"""Files that the app does not need: the big packages' own tests, what other code would be compiled against, and
Arrow's clients of Flight and S3, which nothing else of Arrow links to (its library of Substrait is linked to)."""

HEADER = f"""\
# The app's wheels: versions and hashes for Python {PYTHON} on Linux x86-64. Made by `nox -s lock`; do not edit.
# {NAME} itself is built from the checkout and gets its hash when the app is packaged.
"""


class ProblemError(Exception):
    """Something that must be corrected before the package can be built."""


# --- the lock file ------------------------------------------------------------------------------


def read_lock(text: str) -> dict[str, tuple[str, str | None]]:
    """Return the version and sha256 of each name (None for our own hash)."""
    pins: dict[str, tuple[str, str | None]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.!+-]+)(?:\s+--hash=sha256:([0-9a-f]{64}))?\s*", line)
        if not match:
            raise ProblemError(f"{LOCK.name} has a line that is no pin: {line!r}")
        pins[canonicalize_name(match[1])] = (match[2], match[3])
    return pins


def write_lock(pins: Mapping[str, tuple[str, str | None]]) -> str:
    """Return the text that `read_lock` reads, sorted by name."""
    lines = [
        f"{name}=={version}" + (f" \\\n    --hash=sha256:{digest}" if digest else "")
        for name, (version, digest) in sorted(pins.items())
    ]
    return HEADER + "\n".join(lines) + "\n"


def resolve(wheels: Path, extras: list[str]) -> dict[str, tuple[str, str | None]]:
    """Return the newest versions that fit together, and the hashes of their wheels for the app's platform."""
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder, "versions.txt")
        options = ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
        quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
        quiet += [option for extra in ("functions", *extras) for option in ("--extra", extra)]
        uv = [sys.executable, "-m", "uv", "pip", "compile"]
        subprocess.run([*uv, "pyproject.toml", *options, *quiet, "-o", str(versions)], cwd=ROOT, check=True)
        with tempfile.TemporaryDirectory() as downloads:
            download(versions, Path(downloads), [])
            pins = {name: (version, digest) for name, version, digest in map(identify, Path(downloads).iterdir())}
            for wheel in Path(downloads).iterdir():
                wheels.mkdir(parents=True, exist_ok=True)
                (wheels / wheel.name).write_bytes(wheel.read_bytes())
    return {**pins, NAME: (own_version(), None)}


def identify(wheel: Path) -> tuple[str, str, str]:
    """Return name, version and sha256 of a wheel."""
    name, version = wheel.name.split("-")[:2]
    return canonicalize_name(name), version, hashlib.sha256(wheel.read_bytes()).hexdigest()


def download(requirements: Path, target: Path, options: list[str]) -> None:
    """Download the wheels for the app's platform with pip; none is built, no dependency is added."""
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    python = ["--python-version", PYTHON, "--implementation", "cp", "--abi", f"cp{PYTHON.replace('.', '')}"]
    abis = ["--abi", "abi3", "--abi", "none"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    where = ["-r", str(requirements), "-d", str(target)]
    subprocess.run([*pip, *platforms, *python, *abis, *options, *where], check=True)


def own_version() -> str:
    """Return the library's version, as its source has it."""
    text = (ROOT / "src" / "luxor_pipelines" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not match:
        raise ProblemError("src/luxor_pipelines/__init__.py has no __version__")
    return match[1]


def declared() -> list[Requirement]:
    """Return the requirements of the library and its extra for the app, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["functions"]]]


def unmet(needs: list[Requirement], pins: Mapping[str, tuple[str, str | None]], source: str) -> Iterator[str]:
    """Yield a sentence for each of ``needs`` that the pins do not meet."""
    for need in needs:
        if need.marker and not need.marker.evaluate({**MARKERS, "extra": ""}):
            continue
        pinned = pins.get(canonicalize_name(need.name))
        if pinned is None:
            yield f"{source} needs {need}, which is not pinned"
        elif not need.specifier.contains(Version(pinned[0]), prereleases=True):
            yield f"{source} needs {need}, but {pinned[0]} is pinned"


def check_lock(pins: Mapping[str, tuple[str, str | None]]) -> None:
    """Refuse a lock file that no longer meets pyproject.toml."""
    problems = list(unmet(declared(), pins, "pyproject.toml"))
    if pins.get(NAME, ("nothing", None))[0] != own_version():
        problems.append(f"{NAME} {pins.get(NAME, ('nothing', None))[0]} is pinned, but the checkout is {own_version()}")
    problems += [f"{name} has no hash" for name, (_, digest) in pins.items() if digest is None and name != NAME]
    if problems:
        raise ProblemError("\n".join([*problems, "Run `nox -s lock`."]))


# --- bytecode -----------------------------------------------------------------------------------


def app_python() -> str:
    """Return the path of an interpreter of the app's version of Python.

    Raises
    ------
    ProblemError
        This machine has none.
    """
    if sys.version_info[:2] == tuple(map(int, PYTHON.split("."))):
        return sys.executable
    path = shutil.which(f"python{PYTHON}")
    if path is None:
        raise ProblemError(
            f"The app's bytecode is compiled by Python {PYTHON}, which is not on the path. "
            "Install it, or build with --no-bytecode: the app then takes longer to start."
        )
    return path


def compile_files(files: Mapping[str, bytes], python: str) -> dict[str, bytes]:
    """Compile the Python files among ``files`` in a process of its own; return the bytecode files.

    Python uses them without looking at the sources (``unchecked-hash``): the package never changes in place.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path, data in files.items():
            if path.endswith(".py"):
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        paths = ["-s", folder, "-p", WWWROOT, folder]
        command = [python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *paths]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # The order in which sets are marshalled follows the hash seed.
        compiled = subprocess.run(
            command, env={**environment, "PYTHONHASHSEED": "0"}, check=False, capture_output=True, text=True
        )
        if compiled.returncode:
            raise ProblemError(f"Bytecode could not be compiled:\n{compiled.stdout}{compiled.stderr}")
        caches = Path(folder).rglob("*.pyc")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in caches}


def compile_twice(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the bytecode of ``files``; none if two compilations differ, since the package must be reproducible."""
    python = app_python()
    bytecode = compile_files(files, python)
    again = compile_files(files, python)
    different = sorted(path for path in bytecode.keys() | again.keys() if bytecode.get(path) != again.get(path))
    if different:
        print(f"NO BYTECODE: two compilations differ in {len(different)} files, such as {different[0]}.")
        return {}
    return bytecode


# --- the package --------------------------------------------------------------------------------


def build_wheel(target: Path) -> Path:
    """Build our wheel from the checkout with the pinned hatchling of this environment."""
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # 1980, the first year of zip files
    command = [sys.executable, "-c", code, str(target)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return target / done.stdout.split()[-1]


def fetch_wheels(pins: Mapping[str, tuple[str, str | None]], cache: Path) -> list[Path]:
    """Return the wheels that the pins name by hash; those not in the cache are downloaded into it."""
    wanted = {digest: f"{name}=={version}" for name, (version, digest) in pins.items() if digest}
    cache.mkdir(parents=True, exist_ok=True)
    for attempt in (1, 2):
        held = {identify(wheel)[2]: wheel for wheel in cache.glob("*.whl")}
        missing = [digest for digest in wanted if digest not in held]
        if not missing:
            return sorted(held[digest] for digest in wanted)
        if attempt == 1:
            with tempfile.TemporaryDirectory() as folder:
                requirements = Path(folder, "requirements.txt")
                lines = [f"{wanted[digest]} --hash=sha256:{digest}\n" for digest in missing]
                requirements.write_text("".join(lines), encoding="utf-8")
                download(requirements, cache, ["--require-hashes"])
    raise ProblemError(f"No wheels with the pinned hashes: {', '.join(wanted[digest] for digest in missing)}")


def unpack(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file that an installer would put into site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", member.filename)
            if not member.is_dir() and ".data/" not in path.partition("/")[0] + "/" and not UNUSED.search(path):
                yield path, archive.read(member)


def check_wheels(wheels: list[Path], pins: Mapping[str, tuple[str, str | None]]) -> None:
    """Refuse a set of wheels in which one needs a package that is missing or of another version."""
    problems: list[str] = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            path = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = HeaderParser().parsestr(archive.read(path).decode("utf-8"))
        name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        if Version(pins[name][0]) != Version(version):
            problems.append(f"{wheel.name} is version {version}, but {pins[name][0]} is pinned")
        needs = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
        problems += unmet(needs, pins, name)
    if problems:
        raise ProblemError("\n".join([*problems, "Run `nox -s lock`."]))


def shell() -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the app's own files: host.json and the folders that are functions."""
    yield "host.json", (ROOT / "host.json").read_bytes()
    for marker in sorted((ROOT / "functions").glob("*/function.json")):
        for path in marker.parent.iterdir():
            if path.suffix in {".py", ".json"}:
                yield path.relative_to(ROOT / "functions").as_posix(), path.read_bytes()


def assemble(files: Mapping[str, bytes], target: Path) -> None:
    """Write the zip: sorted, without times, users or anything else of this machine."""
    with zipfile.ZipFile(target, "w") as archive:
        for path, data in sorted(files.items()):
            member = zipfile.ZipInfo(path, TIMESTAMP)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data, compresslevel=6)


def build(target: Path, cache: Path, *, bytecode: bool = True) -> Path:
    """Build the wheel and the zip into ``target``; return the zip's path."""
    pins = read_lock(LOCK.read_text(encoding="utf-8"))
    check_lock(pins)
    target.mkdir(parents=True, exist_ok=True)
    own = build_wheel(target)
    pins[NAME] = (pins[NAME][0], identify(own)[2])
    wheels = [own, *fetch_wheels(pins | {NAME: (own_version(), None)}, cache)]
    check_wheels(wheels, pins)

    files = dict(shell())
    files["requirements.txt"] = write_lock(pins).encode()
    for wheel in wheels:
        for path, data in unpack(wheel):
            place = f".python_packages/lib/site-packages/{path}"
            if files.setdefault(place, data) != data:
                raise ProblemError(f"{wheel.name} and another wheel both have {path}")
    if bytecode:
        files |= compile_twice(files)
    unpacked = sum(map(len, files.values()))
    result = target / f"functionapp-{own_version()}.zip"
    assemble(files, result)
    sizes = f"{result.stat().st_size / 1e6:,.1f} MB, unpacked {unpacked / 1e6:,.1f} MB, {len(files):,} files"
    if result.stat().st_size > ZIP_MAX or unpacked > UNPACKED_MAX:
        raise ProblemError(f"{result.name} is too large: {sizes}")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (own, result)]
    (target / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(f"{result.name}: {sizes}\n" + "".join(sums), end="")
    if datetime.now(UTC).date() > SUPPORTED_UNTIL - timedelta(days=180):
        print(f"Python {PYTHON} is supported until {SUPPORTED_UNTIL}: choose a later one in functions/python.json.")
    return result


def main() -> int:
    """Run the command line's command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["lock", "build"])
    parser.add_argument(
        "--extra", action="append", default=[], help="lock this extra of the library, too, such as otel"
    )
    parser.add_argument("--target", type=Path, default=ROOT / "dist", help="where the zip goes")
    parser.add_argument("--no-bytecode", action="store_true", help=f"leave bytecode out; needs no Python {PYTHON}")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build" / "wheels", help="where wheels are kept")
    options = parser.parse_args()
    options.target, options.wheels = options.target.resolve(), options.wheels.resolve()
    try:
        if options.command == "lock":
            LOCK.write_text(write_lock(resolve(options.wheels, options.extra)), encoding="utf-8")
        else:
            build(options.target, options.wheels, bytecode=not options.no_bytecode)
    except ProblemError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
