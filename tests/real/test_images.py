"""Real kernels in the cache, from an archive in miniature: no network, no kernel that could be booted."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.real import archive, images, modules, vmlinux
from cowcatcher.real.images import ImageError, NoSuchModule, Outcome, UnknownImage
from tests.real.archive_in_miniature import Miniature, bzimage, elf, kernel, missing_tools, module, new_key, vmlinuz

OLD = "6.1.0-9-cloud-amd64"
SPLIT = "7.3.4+deb13-cloud-amd64"
SIGNED = b"~Module signature appended~\n"


def quiet(*_: object) -> None:
    pass


def install(archive_here: Miniature, *names: str) -> list[Outcome]:
    return list(images.install(images.plan(names, mirror=archive_here.mirror), quiet))


# --- the kernel in its wrapping


def outside(*command: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]}")
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return pack


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": outside("zstd", "-q", "-c"),
    "lz4": outside("lz4", "-l", "-q", "-c"),
    "lzo": outside("lzop", "-c"),
}


@pytest.mark.parametrize("form", PACKERS)
def test_every_compression(form: str) -> None:
    data = kernel(OLD)
    packed = PACKERS[form](data)
    wrapped = bzimage(packed, len(data))
    assert vmlinux.extract(wrapped) == data
    assert vmlinux.extract(b"something else" + packed) == data  # no header: found by its magic
    assert vmlinux.release(wrapped) == vmlinux.release(data) == OLD


def test_a_header_saves_from_false_beginnings() -> None:
    data = kernel(OLD)
    wrapped = bzimage(gzip.compress(data), len(data))
    assert vmlinux.extract(wrapped[:600] + b"\x1f\x8b\x08" + wrapped[603:]) == data
    assert vmlinux.extract(b"\x1f\x8b\x08 BZh \xfd7zXZ\0" + wrapped[512:]) == data


def test_no_kernel_in_it() -> None:
    for data in (b"", b"text", gzip.compress(b"text"), bzimage(b"", 0), bzimage(gzip.compress(b"text"), 4)):
        with pytest.raises(vmlinux.NoKernel, match="give a vmlinux or a bzImage"):
            vmlinux.extract(data)


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(vmlinux.NoKernel, match="install the package 'zstd'"):
        vmlinux.extract(bzimage(b"\x28\xb5\x2f\xfd....", 4))


# --- modules


def test_what_a_module_needs() -> None:
    assert modules.depends(module()) == []
    assert modules.depends(module("a", "b-c")) == ["a", "b_c"]
    assert modules.depends(elf({b".text": b""})) == []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own(cache: Path, tmp_path: Path) -> images.KernelImage:
    """A kernel of one's own with modules in every form: a needs b and c, b needs c, d needs what there is not."""
    tree = tmp_path / "build" / "drivers"
    tree.mkdir(parents=True)
    (tree / "mod-a.ko.xz").write_bytes(lzma.compress(module("mod_b", "mod_c")))
    (tree / "mod_b.ko").write_bytes(module("mod_c"))
    (tree / "mod_c.ko.gz").write_bytes(gzip.compress(module("fuse")))
    (tree / "mod_d.ko").write_bytes(module("absent"))
    (tree / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\n")
    (tree / "bzImage").write_bytes(vmlinuz("7.9.0-mine"))
    return images.register(tree / "bzImage", "mine", tree.parent)


def test_modules_come_behind_what_they_need(own: images.KernelImage) -> None:
    found = images.module_files(own, ["mod-a", "fuse", "mod_b"])
    assert [p.name for p in found] == ["mod_c.ko", "mod_b.ko", "mod_a.ko"]
    assert all(p.read_bytes().startswith(vmlinux.ELF) for p in found)
    assert images.module_files(own, ["mod_a"]) == found
    assert images.module_files(own, []) == []


def test_a_module_that_is_not_there(own: images.KernelImage) -> None:
    with pytest.raises(NoSuchModule, match=r"'mine' \(7.9.0-mine\): there is no module 'nope', and it is not built in"):
        images.module_files(own, ["nope"])
    with pytest.raises(NoSuchModule, match="no module 'absent', which 'mod_d' depends on"):
        images.module_files(own, ["mod_d"])


def test_zstd_modules(own: images.KernelImage) -> None:
    assert own.modules
    (own.modules / "mod_z.ko.zst").write_bytes(PACKERS["zstd"](module()))
    assert [p.name for p in images.module_files(own, ["mod_z"])] == ["mod_z.ko"]


def test_damaged_module(own: images.KernelImage) -> None:
    assert own.modules
    (own.modules / "broken.ko.gz").write_bytes(gzip.compress(b"not a module"))
    with pytest.raises(ImageError, match="damaged"):
        images.module_files(own, ["broken"])


# --- one's own


def test_own_kernel(own: images.KernelImage) -> None:
    assert (own.name, own.release, own.flavour, own.config) == ("mine", "7.9.0-mine", "own", None)
    assert own.vmlinux.read_bytes() == kernel("7.9.0-mine")
    assert images.image("mine") == own
    assert images.installed() == [own]
    images.remove("mine")
    assert images.installed() == []
    assert own.modules
    assert own.modules.exists()  # the user's own


def test_own_kernel_again_takes_the_place(own: images.KernelImage, tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(kernel("8.0.0"))
    images.register(tmp_path / "vmlinux", "mine")
    assert [i.release for i in images.installed()] == ["8.0.0"]
    assert images.image("mine").modules is None
    with pytest.raises(ImageError, match="without modules"):
        images.module_files(images.image("mine"), ["fuse"])


@pytest.mark.parametrize(
    ("name", "file", "tree", "says"),
    [
        ("6.1", "vmlinux", None, "cannot name"),
        ("6.1-full", "vmlinux", None, "cannot name"),
        ("all", "vmlinux", None, "cannot name"),
        (".hidden", "vmlinux", None, "cannot name"),
        ("a/b", "vmlinux", None, "cannot name"),
        ("", "vmlinux", None, "cannot name"),
        ("mine", "nowhere", None, "No such file"),
        ("mine", "text", None, "give a vmlinux or a bzImage"),
        ("mine", "vmlinux", "text", "no directory"),
    ],
)
def test_own_kernel_refused(name: str, file: str, tree: str | None, says: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(kernel("8.0.0"))
    (tmp_path / "text").write_text("text")
    with pytest.raises(ImageError, match=says):
        images.register(tmp_path / file, name, tmp_path / tree if tree else None)
    assert images.installed() == []


# --- from the archive


@pytest.fixture(scope="module")
def signing_key() -> Iterator[tuple[Path, bytes]]:
    if missing := missing_tools():
        pytest.skip(f"no {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="gpg-") as place:  # short: it holds a socket
        gnupg = Path(place) / "h"
        yield gnupg, new_key(gnupg)
        subprocess.run(["gpgconf", "--homedir", str(gnupg), "--kill", "all"], check=False, capture_output=True)


@pytest.fixture
def miniature(
    signing_key: tuple[Path, bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Miniature:
    """6.1 in one package, 7.3 in three, an older 6.1, a full flavour, and things that are not kernels."""
    gnupg, public = signing_key
    keys = tmp_path / "keys.gpg"
    keys.write_bytes(public)
    monkeypatch.setattr(archive, "KEYRINGS", (str(keys),))
    mini = Miniature(tmp_path / "debian", keys, gnupg)
    for release, version in ((OLD, "6.1.99-1"), ("6.1.0-10-cloud-amd64", "6.1.100-1"), ("6.1.0-10-amd64", "6.1.100-1")):
        mini.deb("bookworm", f"linux-image-{release}", version, whole(release))
    mini.deb("bookworm", "linux-image-6.1.0-11-cloud-amd64-unsigned", "6.1.101-1", {})
    mini.deb("bookworm", "linux-image-cloud-amd64", "6.1.101-1", {})
    tree = f"usr/lib/modules/{SPLIT}"
    version = "7.3.4-1~bpo13+1"
    mini.deb("trixie-backports", f"linux-binary-{SPLIT}", version, {f"{tree}/vmlinuz": vmlinuz(SPLIT)})
    mini.deb(
        "trixie-backports", f"linux-modules-{SPLIT}", version, {f"{tree}/kernel/dm.ko.xz": lzma.compress(module())}
    )
    files = {f"{tree}/config": b"CONFIG_KSM=y\n", f"{tree}/modules.builtin": b"kernel/fs/fuse/fuse.ko\n"}
    mini.deb("trixie-backports", f"linux-base-{SPLIT}", version, files)
    mini.publish()
    return mini


def whole(release: str) -> dict[str, bytes]:
    return {
        f"boot/vmlinuz-{release}": vmlinuz(release),
        f"boot/config-{release}": b"CONFIG_KSM=y\n",
        f"lib/modules/{release}/kernel/dm.ko": module(),
    }


def test_install_from_one_package(miniature: Miniature) -> None:
    (outcome,) = install(miniature, "6.1")
    assert not outcome.missing
    image = images.image("6.1")
    assert image == outcome.image
    assert image.release == "6.1.0-10-cloud-amd64"  # the newest
    assert image.vmlinux.read_bytes() == kernel(image.release)
    assert image.config
    assert image.config.read_text() == "CONFIG_KSM=y\n"
    assert [p.name for p in images.module_files(image, ["dm"])] == ["dm.ko"]
    (package,) = image.record["packages"]
    assert package["suite"] == "bookworm"
    assert package["version"] == "6.1.100-1"
    assert len(package["sha256"]) == 64
    assert image.place.name == f"6.1_6.1.100-1_{package['sha256'][:12]}"
    assert not list((images.home() / "packages").iterdir())  # a copy of what is unpacked


def test_install_from_three_packages(miniature: Miniature) -> None:
    (outcome,) = install(miniature, "7.3")
    image = outcome.image
    assert image
    assert not outcome.missing
    assert image.release == SPLIT
    assert image.config
    assert images.module_files(image, ["fuse"]) == []
    assert [p.name for p in images.module_files(image, ["dm"])] == ["dm.ko"]
    assert not list(image.place.rglob("vmlinuz"))


def test_flavours_live_side_by_side(miniature: Miniature) -> None:
    outcomes = install(miniature, "6.1", "6.1-full", "6.1")
    assert [o.image.release if o.image else "" for o in outcomes] == ["6.1.0-10-cloud-amd64", "6.1.0-10-amd64"]
    assert [i.name for i in images.installed()] == ["6.1", "6.1-full"]
    (again,) = images.install(images.plan(["6.1"], "full", miniature.mirror), quiet)
    assert again.already
    images.remove("6.1")
    assert [i.name for i in images.installed()] == ["6.1-full"]


@pytest.mark.parametrize("stage", ["downloading", "unpacking", "extracting vmlinux"])
def test_an_interrupted_install_is_resumed(stage: str, miniature: Miniature) -> None:
    def interrupt(name: str, doing: str, done: int, total: int) -> None:
        if doing == stage and (doing != "downloading" or done):
            raise KeyboardInterrupt

    plans = images.plan(["7.3"], mirror=miniature.mirror)
    with pytest.raises(KeyboardInterrupt):
        list(images.install(plans, interrupt))
    assert images.installed() == []
    assert list((images.home() / "packages").iterdir())
    for gone in miniature.root.glob("pool/main/l/linux/linux-binary-7*"):
        gone.unlink()  # not fetched a second time
    (outcome,) = install(miniature, "7.3")
    assert outcome.image
    assert not outcome.missing
    assert not list((images.home() / "images").glob(".*"))


def test_half_of_a_package_is_no_package(miniature: Miniature) -> None:
    half = images.home() / "packages" / "linux-image-6.1.0-10-cloud-amd64_6.1.100-1_amd64.deb"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"!<arch>\n")
    assert install(miniature, "6.1")[0].image


def test_what_is_left_of_a_killed_install_is_swept(miniature: Miniature) -> None:
    for name in (".new-6.1-x", ".gone-6.1_6.1.99"):
        (images.home() / "images" / name).mkdir(parents=True)
        (images.home() / "images" / name / "vmlinux").write_bytes(b"half")
    (images.home() / "images" / "broken").mkdir()
    (images.home() / "images" / "broken" / "record.json").write_text("{")
    assert images.installed() == []
    assert install(miniature, "6.1")[0].image
    assert not list((images.home() / "images").glob(".*"))


def test_another_key_is_refused(miniature: Miniature) -> None:
    with tempfile.TemporaryDirectory(prefix="gpg-") as place:
        miniature.keys.write_bytes(new_key(Path(place) / "h"))
        (outcome,) = install(miniature, "6.1")
        subprocess.run(["gpgconf", "--homedir", f"{place}/h", "--kill", "all"], check=False, capture_output=True)
    assert outcome.image is None
    assert "bookworm" in outcome.missing[0]
    assert images.installed() == []


def test_a_package_that_was_tampered_with_is_refused(miniature: Miniature) -> None:
    for deb in miniature.root.glob("pool/main/l/linux/linux-image-6.1*-cloud-amd64_*"):
        deb.write_bytes(deb.read_bytes()[:-1] + b"!")
    (outcome,) = install(miniature, "6.1")
    assert outcome.image is None
    assert len(outcome.missing) == 2  # both releases were tried
    assert images.installed() == []


def test_the_next_best_release_is_taken(miniature: Miniature) -> None:
    next(miniature.root.glob("pool/main/l/linux/linux-image-6.1.0-10-cloud*")).unlink()
    (outcome,) = install(miniature, "6.1")
    assert outcome.image
    assert outcome.image.release == OLD


def test_what_cannot_be_had_does_not_stop_the_rest(miniature: Miniature) -> None:
    gone, none, fine = install(miniature, "5.10", "7.2", "6.1")
    assert gone.image is None
    assert "bullseye" in gone.missing[0]
    assert none.missing == ("trixie-backports has no cloud kernel 7.2 any more",)
    assert fine.image


def test_too_little_room(miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "free_space", lambda: 1 << 20)
    (outcome,) = install(miniature, "6.1")
    assert outcome.image is None
    assert "1 MB are free" in outcome.missing[0]


# --- modules that only the pool has


def signed(module_: bytes, place: Path) -> bytes:
    words = "openssl cms -sign -binary -noattr -nocerts -outform DER -md sha256 -signer cert.pem -inkey key.pem -in -"
    done = subprocess.run(words.split(), input=module_, cwd=place, capture_output=True, check=True)
    return module_ + done.stdout + struct.pack(">8xI", len(done.stdout)) + SIGNED


@pytest.fixture
def module_key(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 3650 -subj /CN=kernel"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.fixture
def pool_only(miniature: Miniature, module_key: Path) -> Miniature:
    """7.0: its image is in the index and has a key in it; its modules are in the pool alone."""
    release = "7.0.13+deb13-cloud-amd64"
    tree = f"usr/lib/modules/{release}"
    words = "openssl x509 -in cert.pem -outform DER"
    cert = subprocess.run(words.split(), cwd=module_key, check=True, capture_output=True).stdout
    picture = {f"boot/vmlinuz-{release}": vmlinuz(release, cert)}
    miniature.deb("trixie-backports", f"linux-binary-{release}", "7.0.13-1", picture)
    good = signed(module(), module_key)
    files = {
        f"{tree}/kernel/good.ko.xz": lzma.compress(good),
        f"{tree}/kernel/bare.ko": module(),
        f"{tree}/kernel/changed.ko": good.replace(b"\x90", b"\x91", 1),
        f"{tree}/vmlinuz": b"not the kernel",
    }
    miniature.deb("trixie-backports", f"linux-modules-{release}", "7.0.13-1", files, listed=False)
    miniature.deb("trixie-backports", f"linux-base-{release}", "7.0.13-1", {f"{tree}/config": b"X=y\n"}, listed=False)
    miniature.publish()
    return miniature


def test_modules_from_the_pool_are_verified_by_the_kernel(pool_only: Miniature) -> None:
    (outcome,) = install(pool_only, "7.0")
    image = outcome.image
    assert image
    assert not outcome.missing
    assert [p["in_index"] for p in image.record["packages"]] == [True, False, False]
    assert image.config
    assert [p.name for p in images.module_files(image, ["good"])] == ["good.ko"]
    for bad in ("bare", "changed"):
        with pytest.raises(ImageError, match="not signed by the key of its kernel"):
            images.module_files(image, [bad])
    assert not list(image.place.rglob("vmlinuz"))


def test_without_openssl_they_are_not_used(pool_only: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    image = install(pool_only, "7.0")[0].image
    assert image
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImageError, match="install the package 'openssl'"):
        images.module_files(image, ["good"])


def test_what_has_vanished_from_the_pool_is_named(pool_only: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    next(pool_only.root.glob("pool/main/l/linux/linux-modules-7.0*")).unlink()
    assert main(["kernels", "install", "7.0", "6.1", "--mirror", pool_only.mirror]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "linux-modules-7.0.13+deb13-cloud-amd64 7.0.13-1 could not be had" in out
    assert "6.1: installed" in out
    image = images.image("7.0")
    assert image.modules is None


# --- errors and the command


def test_unknown_names(cache: Path) -> None:
    with pytest.raises(UnknownImage, match=r"cowcatcher kernels install 6\.1$"):
        images.image("6.1")
    with pytest.raises(UnknownImage, match=r"cowcatcher kernels install 7\.3 --flavour full"):
        images.image("7.3-full")
    with pytest.raises(UnknownImage, match="--image FILE --name mine"):
        images.image("mine")
    with pytest.raises(ImageError, match=r"there is no kernel '2\.4' to install; there are: 5\.10"):
        images.plan(["2.4"])
    assert not cache.exists()


def test_no_apt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (plan,) = images.plan(["6.1"])
    assert "install the package 'apt'" in plan.problem


def test_no_keyring(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "KEYRINGS", ())
    (plan,) = images.plan(["6.1"], mirror="file:///nowhere")
    assert "debian-archive-keyring" in plan.problem


def test_the_mirror_is_the_one_of_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if missing := missing_tools():
        pytest.skip(f"no {', '.join(missing)}")
    (tmp_path / "mirrors").write_text("# ours\nhttp://listed.example/debian priority:1\n")
    listed = {
        "http://a.example/debian-security/ Debian Debian-Security\nhttp://b.example/x/ Debian Debian": "http://b.example/x/",
        "http://c.example/ubuntu/ Ubuntu Ubuntu\nhttp://d.example/debian/ $(ORIGIN) $(LABEL)": "http://d.example/debian/",
        f"mirror+file:{tmp_path}/mirrors Debian Debian": "http://listed.example/debian",
        "http://c.example/ubuntu/ Ubuntu Ubuntu": None,
    }
    for said, mirror in listed.items():
        monkeypatch.setattr(archive, "_run", lambda *_, said=said: said)
        if mirror:
            assert archive.mirror_of_this_machine() == mirror
        else:
            with pytest.raises(archive.ArchiveError, match="--mirror URL"):
                archive.mirror_of_this_machine()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "vmlinux").write_bytes(kernel("8.0.0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ImageError, match="set XDG_CACHE_HOME"):
        images.register(tmp_path / "vmlinux", "mine")


def test_command(miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str, status: int = 0) -> str:
        assert main(line.split()) == status
        return capsys.readouterr().out

    assert "No kernel is installed yet" in say("kernels images")
    assert "6.1: installed: 6.1.0-10-cloud-amd64" in say(f"kernels install 6.1 --mirror {miniature.mirror}")
    assert "here already" in say(f"kernels install 6.1 --mirror {miniature.mirror}")
    doc = json.loads(say("kernels images --json"))
    assert [i["name"] for i in doc["images"]] == ["6.1"]
    assert doc["images"][0]["modules_verified_by"] == "signed index"
    doc = json.loads(say(f"kernels install 6.1 5.10 --json --mirror {miniature.mirror}", 3))
    assert [k["outcome"] for k in doc["kernels"]] == ["here already", "could not be had"]
    table = say("kernels images").splitlines()
    assert table[0].split() == ["name", "release", "flavour", "vmlinux", "modules", "disk", "from"]
    assert table[1].split()[:3] == ["6.1", "6.1.0-10-cloud-amd64", "cloud"]
    assert "Removed 1 kernel: 6.1" in say("kernels remove 6.1")
    say("kernels remove 6.1", 2)


def test_command_with_ones_own(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vmlinux").write_bytes(kernel("8.0.0"))
    assert main(["kernels", "install", "--image", str(tmp_path / "vmlinux"), "--name", "mine"]) == 0
    assert capsys.readouterr().out.startswith("mine: installed: 8.0.0")
    assert main(["kernels", "images", "mine"]) == 0
    assert "own build" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "kernels install",
        "kernels install 2.4",
        "kernels install 6.1 --name x",
        "kernels install 6.1 --image x --name y",
        "kernels install --image nowhere --name y",
        "kernels install --image nowhere",
        "kernels remove",
        "kernels remove 6.1",
        "kernels remove 6.1 --flavour full",
        "kernels images 6.1",
        "kernels v5.9 --mirror x",
    ],
)
def test_mistakes(line: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("cowcatcher: kernels")
    assert not said.out


def test_the_help_names_every_series(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--help"]) == 0
    assert f"There are: {', '.join(images.SERIES)}." in " ".join(capsys.readouterr().out.split())


def test_a_full_disk(miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    plans = images.plan(["6.1"], mirror=miniature.mirror)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        (outcome,) = images.install(plans, quiet)
    assert outcome.image is None
    assert "No space left" in outcome.missing[0]
    assert install(miniature, "6.1")[0].image


def test_a_record_that_cannot_be_read_is_replaced(miniature: Miniature) -> None:
    image = install(miniature, "6.1")[0].image
    assert image
    (image.place / "record.json").write_text("{")
    assert install(miniature, "6.1")[0].image == images.image("6.1")


def test_listing_modelled_kernels_does_not_import_the_real_ones() -> None:
    program = (
        "import sys\nfrom cowcatcher.cli import main\nmain(['kernels', '--json'])\n"
        "print([m for m in sys.modules if m.startswith('cowcatcher.real')], file=sys.stderr)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
