"""Real kernels in the user's cache: Debian's, fetched and verified by the machine's own apt, and those one has built.

An image is a directory below ``kernels/images``: the uncompressed kernel, its modules, its config, ``record.json``. It
is made under another name and renamed when it is whole, so there is never half a kernel; what was downloaded before an
interruption is used again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from cowcatcher.real import archive, modules, vmlinux
from cowcatcher.real.archive import ArchiveError, Found, Suite
from cowcatcher.real.build import cache_dir

SERIES: Final = tuple(archive.SUITES)
_RECORD: Final = "record.json"
_WAITING: Final = "waiting for another install"
_PICTURE: Final = 64 << 20  # what an uncompressed kernel takes, about

#: Called with the kernel's name, what is being done, how many bytes of it, of how many (0, 0 if it is not bytes).
Progress = Callable[[str, str, int, int], None]


def _silently(name: str, doing: str, done: int, total: int) -> None:
    pass


class ImageError(Exception):
    """Something about a kernel image; the text says what and what to do next."""


class UnknownImage(ImageError):
    """No kernel of that name is installed."""


class NoSuchControl(ImageError):
    """This kernel was built without such a rule to break."""


class NoSuchModule(ImageError):
    """This kernel has no such module, and has it not built in either."""


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel that can be booted. ``vmlinux`` is an ELF file; ``modules`` a tree with .ko files somewhere in it.

    Take modules by :func:`module_files`, which orders, decompresses and where necessary verifies them. ``broken``:
    rules that it is told to break when it boots (see ``real/controls``).
    """

    name: str
    release: str
    flavour: str  # cloud, full, own
    vmlinux: Path
    modules: Path | None
    config: Path | None
    record: Mapping[str, Any]
    broken: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        return self.vmlinux.parent

    @property
    def controls(self) -> tuple[str, ...]:
        """What may stand behind its name and a ``+``: rules that it can break, and states of several."""
        from cowcatcher.real.controls import states

        build = self.record.get("build", {})
        rules = tuple(build.get("rules", ()))
        return rules + tuple(s.name for s in states() if s.set == build.get("edits") and set(s.rules) <= set(rules))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Words for its command line."""
        from cowcatcher.real.controls import PARAMETER

        return (f"{PARAMETER}={','.join(self.broken)}",) if self.broken else ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be fetched for a kernel, the best release first; or why none can be; or that it is here already."""

    name: str
    series: str
    flavour: str
    suite: Suite | None = None
    candidates: tuple[Found, ...] = ()
    problem: str = ""
    installed: KernelImage | None = None

    @property
    def download(self) -> int:
        return sum(p.size for p in self.candidates[0].packages) if self.candidates else 0

    @property
    def space(self) -> int:
        """Bytes on disk when it is installed, about."""
        return sum(p.installed_size for p in self.candidates[0].packages) + _PICTURE if self.candidates else 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``image`` is None if the kernel could not be had; ``missing`` says what could not, also of one that is here."""

    name: str
    image: KernelImage | None
    missing: tuple[str, ...] = ()
    already: bool = False
    seconds: float = 0.0
    downloaded: int = 0


def home() -> Path:
    return cache_dir() / "kernels"


def installed() -> list[KernelImage]:
    """All kernels that can be booted, the oldest release first."""
    found = []
    for path in (home() / "images").glob(f"[!.]*/{_RECORD}"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(_read(path))
    return sorted(found, key=lambda image: (archive.natural(image.release), image.name))


def image(name: str) -> KernelImage:
    """The kernel of that name; ``NAME+CONTROL`` is one of its known-bad variants.

    UnknownImage says how to get a kernel that is not there, NoSuchControl what there is instead of a control.
    """
    everything = installed()
    for one in everything:
        if one.name == name:
            return one
    for one in everything:
        if name.startswith(f"{one.name}+"):
            return _broken(one, name.removeprefix(one.name)[1:].split("+"))
    there = ", ".join(i.name for i in everything) or "none"
    series, flavour = split_name(name)
    if series in SERIES:
        option = " --flavour full" if flavour == "full" else ""
        raise UnknownImage(f"kernel '{name}' is not installed: cowcatcher kernels install {series}{option}")
    raise UnknownImage(
        f"there is no kernel '{name}'; installed: {there}; can be installed: {', '.join(SERIES)}; one that you have "
        f"built is registered by: cowcatcher kernels install --image FILE --name {name}"
    )


def _broken(image: KernelImage, names: Sequence[str]) -> KernelImage:
    from cowcatcher.real.controls import states

    together = {state.name: state.rules for state in states()}
    rules: dict[str, None] = {}
    for name in names:
        if name not in image.controls:
            there = ", ".join(image.controls) or "none: only those of 'cowcatcher kernels build' have some"
            why = image.record.get("build", {}).get("left_out", {}).get(name)
            raise NoSuchControl(
                f"kernel '{image.name}' has no control '{name}'"
                + (f", for when it was built there was no place for it ({why})" if why else "")
                + f"; it has: {there}"
            )
        rules.update(dict.fromkeys(together.get(name, (name,))))
    return replace(image, name="+".join([image.name, *names]), broken=tuple(rules))


def module_files(image: KernelImage, names: Sequence[str]) -> list[Path]:
    """Plain .ko files of these modules and their dependencies, in the order to load them; without what is built in.

    Raises NoSuchModule, or ImageError for one that is damaged or cannot be verified.
    """
    if not names:
        return []
    if image.modules is None:
        raise NoSuchModule(f"kernel '{image.name}' was installed without modules, so without {', '.join(names)}")
    unverified = image.record.get("modules_from_pool")
    plain = modules.Plain(image.place / "plain", image.vmlinux if unverified else None)
    try:
        return modules.in_order(names, *_modules_of(image.modules), plain)
    except modules.NoSuchModule as error:
        raise NoSuchModule(f"kernel '{image.name}' ({image.release}): {error}") from error
    except (modules.ModuleError, OSError) as error:
        raise ImageError(f"kernel '{image.name}' ({image.release}): {error}") from error


def has_module(image: KernelImage, name: str) -> bool:
    """Is it there, as a file or built in?"""
    return image.modules is not None and any(name in there for there in _modules_of(image.modules))


@lru_cache(maxsize=64)
def _modules_of(tree: Path) -> tuple[dict[str, Path], set[str]]:
    return modules.index(tree), modules.built_in(tree)


def split_name(name: str) -> tuple[str, str]:
    """``6.1`` and ``6.1-full``: series and flavour."""
    return (name.removesuffix("-full"), "full") if name.endswith("-full") else (name, "cloud")


def disk_use(path: Path | None = None) -> int:
    """Bytes that an image, or everything about kernels, takes on disk."""
    total = 0
    for place, _, files in os.walk(path or home()):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, file)).st_blocks * 512
    return total


def free_space() -> int:
    """Bytes that are free where images are kept."""
    place = home()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def plan(names: Sequence[str], flavour: str = "cloud", mirror: str = "", progress: Progress = _silently) -> list[Plan]:
    """Look up what has to be fetched. The indexes are fetched and verified; kernels that are here are left alone."""
    wanted = []
    for name in SERIES if "all" in names else names:
        series, said = split_name(name)
        if series not in SERIES:
            raise ImageError(f"there is no kernel '{name}' to install; there are: {', '.join(SERIES)}, or all")
        said = flavour if said == "cloud" else said
        wanted.append((series if said == "cloud" else f"{series}-{said}", series, said))
    here = {i.name: i for i in installed()}
    suites: dict[str, Suite] = {}
    plans = []
    for name, series, said in dict.fromkeys(wanted):
        if name in here:
            plans.append(Plan(name, series, said, installed=here[name]))
            continue
        try:
            if not suites:
                mirror, keys = mirror or archive.mirror_of_this_machine(), archive.keyring()
            suite_name = archive.SUITES[series]
            suite = suites.setdefault(suite_name, Suite(suite_name, home() / "apt", mirror, keys))
            progress(name, f"index of {suite_name}", 0, 0)
            with locked(partial(progress, name, _WAITING, 0, 0)):
                suite.update()
                found = suite.find(series, said)
        except ArchiveError as error:
            plans.append(Plan(name, series, said, problem=str(error)))
            continue
        problem = "" if found else f"{suite_name} has no {said} kernel {series} any more"
        plans.append(Plan(name, series, said, suite, tuple(found), problem))
    return plans


def install(plans: Sequence[Plan], progress: Progress) -> Iterator[Outcome]:
    """Fetch, unpack and put in place what was planned, one after the other.

    What could not be had is in its outcome, and the others are gone on with.
    """
    try:
        for one in plans:
            yield _carry_out(one, progress)
    finally:
        for suite in {p.suite for p in plans if p.suite}:
            suite.tidy()


def _carry_out(plan: Plan, progress: Progress) -> Outcome:
    missing: tuple[str, ...] = ()
    if plan.installed or not plan.suite or not plan.candidates:
        missing = (plan.problem,) if plan.problem else missing
        return Outcome(plan.name, plan.installed, missing, already=plan.installed is not None)
    begun = time.monotonic()
    with locked(partial(progress, plan.name, _WAITING, 0, 0)):
        for one in (i for i in installed() if i.name == plan.name):
            return Outcome(plan.name, one, already=True)
        _sweep()
        for found in plan.candidates:
            space = sum(p.size + p.installed_size for p in found.packages) + _PICTURE
            if space > free_space():
                why = f"{found.release} needs {space >> 20} MB and {free_space() >> 20} MB are free in {home()}"
                return Outcome(plan.name, None, (why,))
            try:
                made, lacking = _install(plan, plan.suite, found, progress)
            except (ArchiveError, vmlinux.NoKernel) as error:
                missing += (str(error),)
                continue
            except OSError as error:
                return Outcome(plan.name, None, (f"{error.filename or home()}: {error.strerror}",))
            fetched = sum(p["size"] for p in made.record["packages"])
            return Outcome(plan.name, made, lacking, False, time.monotonic() - begun, fetched)
    return Outcome(plan.name, None, missing)


def register(file: Path, name: str, tree: Path | None = None) -> KernelImage:
    """A kernel one has built: a bzImage or a vmlinux, which is copied; the modules are used where they lie."""
    check_own_name(name)
    if tree is not None and not tree.is_dir():
        raise ImageError(f"{tree} is no directory; --modules names one with .ko files somewhere in it")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror}") from error
    try:
        elf = vmlinux.extract(data)
    except vmlinux.NoKernel as error:
        raise ImageError(f"{file}: {error}") from error
    release = vmlinux.release(data) or vmlinux.release(elf) or "unknown"
    return _put_own(elf, name, release, str(file.resolve()), {"modules": str(tree.resolve()) if tree else None})


def place_built(vmlinux_file: Path, config: Path, name: str, build: Mapping[str, Any]) -> KernelImage:
    """A kernel that ``kernel_build`` has made; ``build`` says from what."""
    elf = vmlinux_file.read_bytes()
    release = vmlinux.release(elf) or build["version"]
    return _put_own(elf, name, release, build["source"], {"modules": None, "build": dict(build)}, config)


def _put_own(
    elf: bytes, name: str, release: str, made_from: str, more: Mapping[str, Any], config: Path | None = None
) -> KernelImage:
    with locked(lambda: None):
        _sweep()
        with _staging(name) as place:
            (place / "vmlinux").write_bytes(elf)
            if config:
                shutil.copyfile(config, place / "config")
            own = {"flavour": "own", "release": release, "from": made_from, "packages": []}
            return _put(place, name, {**own, **more})


def check_own_name(name: str) -> None:
    """Raise ImageError if no kernel of one's own can be called that."""
    series, _ = split_name(name)
    if series in SERIES or name == "all" or not set(name) <= _NAME or not name[:1].isalnum():
        raise ImageError(
            f"'{name}' cannot name a kernel of your own: letters, digits and ._+- can, other than {SERIES[0]}"
        )


def remove(name: str) -> int:
    """Delete an image, and what was kept of its build; the bytes that were freed."""
    from cowcatcher.real import kernel_build

    found = image(name)
    if found.broken:
        raise ImageError(f"'{name}' is a variant of one kernel; to remove that, name it without the controls")
    before = disk_use()
    with locked(lambda: None):
        _discard(found.place)
        kernel_build.remove(name)
        _sweep()
    return before - disk_use()


_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


def _install(plan: Plan, suite: Suite, found: Found, progress: Progress) -> tuple[KernelImage, tuple[str, ...]]:
    debs = home() / "packages"
    total = sum(p.size for p in found.packages)
    fetched: list[tuple[archive.Package, Path]] = []
    for package in found.packages:
        before = sum(p.size for p, _ in fetched)

        def so_far(size: int, before: int = before) -> None:
            progress(plan.name, "downloading", before + size, total)

        so_far(0)
        fetched.append((package, suite.download(package, debs, so_far)))
    lacking, loose = [], []
    for package in found.pool_only:
        try:
            loose.append((package, suite.download(package, debs, lambda n: progress(plan.name, "downloading", n, 0))))
        except ArchiveError as error:
            lacking.append(str(error))
    with _staging(plan.name) as place:
        progress(plan.name, "unpacking", 0, 0)
        whole = place / "unpacked"
        for _, deb in fetched:
            archive.unpack(deb, whole)
        progress(plan.name, "extracting vmlinux", 0, 0)
        _take_kernel(whole, place, found.release)
        for _, deb in loose:
            _take_loose(deb, place, found.release)
        for config in (*whole.glob("boot/config-*"), *place.glob("modules/config")):
            config.rename(place / "config")
        shutil.rmtree(whole)
        record = {
            "flavour": plan.flavour,
            "release": found.release,
            "from": suite.name,
            "packages": [
                {
                    "package": p.name,
                    "version": p.version,
                    "sha256": p.sha256 or archive.sha256_of(deb),
                    "suite": suite.name,
                    "pool": p.pool,
                    "size": p.size or deb.stat().st_size,
                    "in_index": bool(p.sha256),
                }
                for p, deb in fetched + loose
            ],
            "modules": "modules" if _has_modules(place / "modules") else None,
            "modules_from_pool": any("-modules-" in p.name for p, _ in loose),
            "missing": lacking,
        }
        made = _put(place, plan.name, record)
    for _, deb in fetched + loose:
        deb.unlink(missing_ok=True)
    return made, tuple(lacking)


def _take_kernel(whole: Path, place: Path, release: str) -> None:
    """The image and the tree of modules, wherever this generation of packages has them."""
    picture = [*whole.glob("boot/vmlinuz-*"), *whole.glob("usr/lib/modules/*/vmlinuz")]
    if not picture:
        raise ArchiveError(f"the packages of {release} have no vmlinuz where we know it; a newer cowcatcher may know")
    (place / "vmlinux").write_bytes(vmlinux.extract(picture[0].read_bytes()))
    picture[0].unlink()
    for tree in _trees(whole, release):
        tree.rename(place / "modules")


def _take_loose(deb: Path, place: Path, release: str) -> None:
    """What we need of a package that the index does not vouch for: modules, verified when used, and two lists."""
    loose = place / "loose"
    archive.unpack(deb, loose)
    for tree in _trees(loose, release):
        for name in ("kernel", "modules.builtin", "config"):
            part, target = tree / name, place / "modules" / name
            if part.exists() and not part.is_symlink() and not target.exists():
                target.parent.mkdir(exist_ok=True)
                part.rename(target)
    shutil.rmtree(loose)


def _trees(root: Path, release: str) -> list[Path]:
    """The directory of modules below ``usr/lib``, or ``lib`` as it was before."""
    found = (root / "usr/lib/modules" / release, root / "lib/modules" / release)
    return [tree for tree in found if tree.is_dir() and not tree.is_symlink()][:1]


def _has_modules(tree: Path) -> bool:
    return next(tree.rglob("*.ko*"), None) is not None


@contextlib.contextmanager
def _staging(name: str) -> Iterator[Path]:
    """A place beside the images that becomes one, or is deleted."""
    import tempfile

    images = home() / "images"
    images.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".new-{name}-", dir=images))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _put(place: Path, name: str, record: dict[str, Any]) -> KernelImage:
    """Complete the record and give the directory its name: from here on the kernel is installed."""
    import datetime

    config = place / "config"
    elf = archive.sha256_of(place / "vmlinux")
    record = {
        "schema": 1,
        "name": name,
        "vmlinux_sha256": elf,
        "config_sha256": archive.sha256_of(config) if config.exists() else None,
        "installed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **record,
    }
    version = record["packages"][0]["version"] if record["packages"] else record["release"]
    digest = record["packages"][0]["sha256"] if record["packages"] else elf
    (place / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    target = place.parent / f"{name}_{version.replace(':', '%3a').replace('/', '_')}_{digest[:12]}"
    for old in installed():
        if old.name == name:
            _discard(old.place)
    if target.exists():  # with a record that cannot be read
        _discard(target)
    place.rename(target)
    return _read(target / _RECORD)


def _read(path: Path) -> KernelImage:
    record = json.loads(path.read_text())
    place = path.parent
    tree, config = record["modules"], place / "config"
    return KernelImage(
        record["name"],
        record["release"],
        record["flavour"],
        place / "vmlinux",
        place / tree if tree else None,
        config if config.exists() else None,
        record,
    )


def _discard(place: Path) -> None:
    """Renamed first: nobody finds half of it."""
    gone = place.parent / f".gone-{place.name}"
    place.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sweep() -> None:
    """What an interrupted install or removal has left; only with the lock."""
    for left in (home() / "images").glob(".*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def locked(wait: Callable[[], None]) -> Iterator[None]:
    """One installation at a time. ``wait`` is called if somebody else is at it."""
    import fcntl

    try:
        home().mkdir(parents=True, exist_ok=True)
        lock = (home() / "lock").open("w")
    except OSError as error:
        raise ImageError(
            f"cannot write to {home()}: {error.strerror}; set XDG_CACHE_HOME to a directory that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
