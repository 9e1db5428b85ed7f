"""Edits that make a kernel wrong on purpose: where they find their places, and a build of a kernel in miniature."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.explore.ordered import predict
from cowcatcher.kernels import modelled
from cowcatcher.litmus import parse, parse_file
from cowcatcher.real import archive, controls, images, kernel_build, vm
from cowcatcher.real.controls import NoPlace
from cowcatcher.real.images import ImageError, KernelImage, NoSuchControl
from cowcatcher.real.kernel_build import BuildFailed
from cowcatcher.real.qemu import EMULATOR
from tests.catalogue.checked import PATHS
from tests.real import controls as page_of_controls
from tests.real.archive_in_miniature import kernel
from tests.real.controls import BUILDS, SEED, SEED_CONTROLS
from tests.real.controls import run as run_on
from tests.real.test_host import wait_for

CACHE = os.environ.get("XDG_CACHE_HOME")

MADE_UP = """\
#include <linux/mm.h>
/* reuse(page) { alone(page) } is told about here */
static bool reuse(struct page *page);
static bool
reuse(struct page *page, const char *why)
	__releases(lock)
{
	if (alone(page)) /* alone(page) */
		say("alone(page) }");
	return alone(
		page) || not_alone(page);
}
bool reuse_all(struct page *page)
{
	return alone(page);
}
"""


def parts(text: str, function: str, expression: str) -> list[str]:
    return [text[begin:end] for begin, end in controls.find(text, function, expression)]


def test_an_expression_is_found_in_its_function_alone() -> None:
    assert parts(MADE_UP, "reuse", "alone(page)") == ["alone(page)"]
    assert parts(MADE_UP, "reuse", "alone( page)") == ["alone(\n\t\tpage)"]
    assert parts(MADE_UP, "reuse_all", "alone(page)") == ["alone(page)"]
    assert parts(MADE_UP, "reuse", "not_alone(page)") == ["not_alone(page)"]
    assert parts(MADE_UP, "use", "alone(page)") == []
    assert parts(MADE_UP, "reuse", "lone(page)") == []


def test_both_branches_of_an_ifdef_are_looked_at() -> None:
    text = "#ifdef X\nint f(void)\n{\n\treturn a;\n}\n#else\nint f(void)\n{\n\treturn b;\n}\n#endif\n"
    assert parts(text, "f", "b") == ["b"]


#: As much of a source of each generation as the edits need, in our own words.
def made_up_source(generation: str) -> dict[str, str]:
    bodies: dict[str, dict[str, dict[str, int]]] = {}
    for rule in controls.rules():
        for e in rule.edits.get(generation, ()):
            bodies.setdefault(e.file, {}).setdefault(e.function, {})[e.find] = e.times
    marker = "PageAnonExclusive" if generation == "marking" else "PageAnon"
    source = {"mm/Makefile": "obj-y += memory.o\n", "include/linux/page-flags.h": f"int {marker}(void);\n"}
    for file, functions in bodies.items():
        texts = ["#include <linux/mm.h>\n"]
        for function, finds in functions.items():
            # one that is part of another, such as a name in a call, stands there already
            alone = {f: n - sum(m for g, m in finds.items() if f in g and f != g) for f, n in finds.items()}
            lines = [f"\tif ({find})\n\t\tcall();\n" for find, times in alone.items() for _ in range(times)]
            texts.append(f"int {function}(void)\n{{\n{''.join(lines)}\tgoto copy;\ncopy:\n\treturn 0;\n}}\n")
        source[file] = "".join(texts)
    return source


@pytest.mark.parametrize("generation", ["counting", "marking"])
def test_every_rule_is_put_in(generation: str) -> None:
    source = made_up_source(generation)
    edited = controls.edit(source.__getitem__)
    assert edited.set == generation
    assert set(edited.rules) == {rule.name for rule in controls.rules() if generation in rule.edits}
    assert not edited.left_out
    for rule in edited.rules:
        c_name = rule.replace("-", "_")
        assert any(f"cowcatcher_breaks({c_name})" in text for text in edited.files.values()), rule
        assert f"RULE({c_name})\n" in edited.files[controls.RULES_HEADER]
    assert not any("BROKEN" in text or "{}" in text for text in edited.files.values())
    for file in source.keys() & edited.files.keys() - {"mm/Makefile"}:
        assert edited.files[file].startswith("#include <linux/cowcatcher.h>\n#include")
    assert edited.files["mm/Makefile"].endswith("obj-y += cowcatcher.o\n")


def test_a_rule_without_a_place_is_left_out_and_named() -> None:
    source = made_up_source("counting")
    source["fs/proc/task_mmu.c"] = source["fs/proc/task_mmu.c"].replace("pte_write", "pte_writes")
    del source["mm/vmscan.c"]

    def read(path: str) -> str:
        if path not in source:
            raise FileNotFoundError(2, "No such file or directory")
        return source[path]

    edited = controls.edit(read)
    assert edited.left_out == {
        "clear-refs-ignores-pins": "fs/proc/task_mmu.c: pte_is_pinned(): '!pte_write(pte)' is there 0 times, not 1",
        "reclaim-takes-pinned": "mm/vmscan.c: No such file or directory",
    }
    assert "fs/proc/task_mmu.c" not in edited.files
    assert "clear_refs" not in edited.files[controls.RULES_HEADER]


def test_no_kernel_at_all() -> None:
    with pytest.raises(NoPlace, match="this is no Linux source"):
        controls.edit(lambda path: Path("/nowhere", path).read_text())
    with pytest.raises(NoPlace, match="no rule has a place in this source"):
        controls.edit(lambda path: "int x;\n")


def test_edits_of_one_expression_are_put_around_each_other() -> None:
    edited = controls.edit(made_up_source("marking").__getitem__)
    memory = edited.files["mm/memory.c"]
    both = [line for line in memory.splitlines() if "wp_can_reuse_anon_folio(folio, vma)" in line]
    assert len(both) == 1
    assert "reuse_by_mapcount" in both[0]
    assert "reuse_always" in both[0]


# --- a build, of a source in miniature


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_build, "_need_tools", lambda: None)
    if shutil.which("make") is None:
        pytest.skip("no make")
    return tmp_path / "cache"


MAKEFILE = """\
VERSION = 5
PATCHLEVEL = 10
SUBLEVEL = 9
EXTRAVERSION =
NAME = In Miniature

allnoconfig:
	@echo 'CONFIG_CC_VERSION_TEXT="no compiler 1.0"' > $(O)/.config
	@grep =y $(KCONFIG_ALLCONFIG) >> $(O)/.config
vmlinux: $(O)/memory.o
	@echo "  LD      vmlinux"
	@cp kernel.elf $(O)/vmlinux
$(O)/memory.o: mm/memory.c
	@echo "  CC      mm/memory.o"
	@cp mm/memory.c $@
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with the places that the edits look for, whose Makefile knows the targets that we use."""
    place = tmp_path / "linux"
    texts = made_up_source("counting") | {"Makefile": MAKEFILE}
    for name, text in texts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "kernel.elf").write_bytes(kernel("5.10.9"))
    (place / "mm" / "link.c").symlink_to("memory.c")
    return place


def snapshot(tree: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p.relative_to(tree)): (p.read_bytes(), p.lstat().st_mtime_ns) for p in tree.rglob("*") if p.is_file()}


def quiet(*_: object) -> None:
    pass


def test_a_build(cache: Path, source: Path) -> None:
    before = snapshot(source)
    said: list[str] = []
    built = kernel_build.build(str(source), progress=lambda name, doing, steps: said.append(doing))
    image = built.image
    assert (image.name, image.release, image.flavour) == ("linux-controls", "5.10.9", "own")
    assert built.steps == 2
    assert any(doing.startswith("compiling") for doing in said)
    about = image.record["build"]
    assert about["source"] == str(source)
    assert about["compiler"] == "no compiler 1.0"
    assert about["version"] == "5.10.9"
    assert set(about["rules"]) == {rule.name for rule in controls.rules() if "counting" in rule.edits}
    assert snapshot(source) == before
    out = images.home() / "builds" / "linux-controls" / "out"
    assert "cowcatcher_breaks(fork_ignores_pins)" in (out / "memory.o").read_text()
    assert images.image("linux-controls") == image


def test_what_has_not_changed_is_not_made_again(cache: Path, source: Path) -> None:
    kernel_build.build(str(source), progress=quiet)
    assert kernel_build.build(str(source), progress=quiet).steps == 1  # vmlinux has no rule that saves it
    (source / "mm/memory.c").write_text((source / "mm/memory.c").read_text() + "/* more */\n")
    assert kernel_build.build(str(source), progress=quiet).steps == 2
    stock = kernel_build.build(str(source), "mine", edited=False, progress=quiet)
    assert "rules" not in stock.image.record["build"]
    assert stock.image.controls == ()
    tree = images.home() / "builds" / "mine" / "tree"
    assert (tree / "mm/memory.c").is_symlink()
    assert os.readlink(tree / "mm/link.c") == "memory.c"


def test_the_shadow_follows_its_source(source: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    kernel_build.shadow(source, tree, {"mm/memory.c": "edited\n"})
    (source / "new.c").write_text("new\n")
    (source / "mm/rmap.c").unlink()
    original = (source / "mm/memory.c").read_text()
    kernel_build.shadow(source, tree, {"mm/gup.c": "edited\n"})
    assert (tree / "new.c").read_text() == "new\n"
    assert not (tree / "mm/rmap.c").is_symlink()
    assert (tree / "mm/memory.c").read_text() == original
    assert (tree / "mm/gup.c").read_text() == "edited\n"
    assert (source / "mm/gup.c").read_text() != "edited\n"


def test_only_what_git_knows_is_source(source: Path, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    (source / ".gitignore").write_text("*.o\n.config\n")
    (source / "old.o").write_text("")
    (source / ".config").write_text("")
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    kernel_build.shadow(source, tmp_path / "tree", {})
    assert (tmp_path / "tree/Makefile").is_symlink()
    assert not (tmp_path / "tree/old.o").is_symlink()
    assert not (tmp_path / "tree/.config").is_symlink()


def test_a_tree_that_was_built_in_is_refused(cache: Path, source: Path) -> None:
    (source / ".config").write_text("")
    with pytest.raises(BuildFailed, match="run 'make mrproper' there"):
        kernel_build.build(str(source), progress=quiet)


def test_a_tarball(cache: Path, source: Path, tmp_path: Path) -> None:
    for tool in ("tar", "xz"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    tarball = tmp_path / "linux-5.10.9.tar.xz"
    subprocess.run(["tar", "-cJf", str(tarball), "-C", str(source.parent), source.name], check=True)
    built = kernel_build.build(str(tarball), progress=quiet)
    assert built.image.name == "linux-5.10.9-controls"
    assert built.image.record["build"]["sha256"] == archive.sha256_of(tarball)
    sources = images.home() / "sources"
    assert len(list(sources.iterdir())) == 1
    assert images.remove("linux-5.10.9-controls") > 0
    assert not list(sources.iterdir())
    assert not list((images.home() / "builds").iterdir())


def test_a_failing_compiler_is_quoted(cache: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "Makefile").write_text(MAKEFILE.replace("@cp mm/memory.c $@", "@echo memory.c:7: error: no; exit 1"))
    assert main(["kernels", "build", str(source)]) == 3
    said = capsys.readouterr().err
    assert "make failed: memory.c:7: error: no | " in said
    assert "linux-controls/log" in said
    assert images.installed() == []


def test_an_interrupt_ends_the_compilers_too(cache: Path, source: Path, tmp_path: Path) -> None:
    (source / "Makefile").write_text(MAKEFILE.replace("@cp mm/memory.c $@", f"@echo $$$$ > {tmp_path}/pid; sleep 60"))
    program = (
        "import sys\nfrom cowcatcher.cli import main\nfrom cowcatcher.real import kernel_build\n"
        "kernel_build._need_tools = lambda: None\nsys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, "kernels", "build", str(source)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert wait_for(lambda: not Path("/proc", (tmp_path / "pid").read_text().strip()).exists(), 30)


def test_a_build_whose_parent_was_killed_is_not_disturbed(cache: Path, source: Path, tmp_path: Path) -> None:
    (source / "Makefile").write_text(MAKEFILE.replace("@cp mm/memory.c $@", f"@echo $$$$ > {tmp_path}/pid; sleep 60"))
    program = (
        "import sys\nfrom cowcatcher.real import kernel_build\nkernel_build._need_tools = lambda: None\n"
        "kernel_build.build(sys.argv[1], progress=lambda *_: None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(source)], cwd=Path(__file__).parents[2]) as process:
        assert wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 30)
        process.kill()
    compiler = int((tmp_path / "pid").read_text())
    with pytest.raises(BuildFailed, match="another process is building"):
        kernel_build.build(str(source), progress=quiet)
    os.killpg(os.getpgid(compiler), signal.SIGKILL)
    (source / "Makefile").write_text(MAKEFILE)
    assert wait_for(lambda: not Path(f"/proc/{compiler}").exists(), 30)
    assert kernel_build.build(str(source), progress=quiet).image.release == "5.10.9"


def test_two_builders_of_one_kernel(cache: Path, source: Path) -> None:
    with kernel_build._only_builder("linux-controls"), pytest.raises(BuildFailed, match="another process is building"):
        kernel_build.build(str(source), progress=quiet)


def test_variants_by_name(cache: Path, source: Path) -> None:
    kernel_build.build(str(source), "mine", progress=quiet)
    variant = images.image("mine+fork-ignores-pins")
    assert variant.broken == ("fork-ignores-pins",)
    assert variant.parameters == ("cowcatcher_break=fork-ignores-pins",)
    assert variant.vmlinux == images.image("mine").vmlinux
    assert images.image("mine").parameters == ()
    assert images.image("mine+reuse-never+reclaim-takes-pinned").broken == ("reuse-never", "reclaim-takes-pinned")
    assert set(images.image("mine+v5.9-rc4").broken) > {"fork-ignores-pins", "gup-fast-ignores-fork"}
    with pytest.raises(NoSuchControl, match=r"has no control 'fork'; it has: fork-ignores-pins, .*v5\.9-rc4"):
        images.image("mine+fork")
    with pytest.raises(ImageError, match="name it without the controls"):
        images.remove("mine+fork-ignores-pins")


def test_a_kernel_without_controls_has_no_variants(cache: Path, source: Path) -> None:
    kernel_build.build(str(source), "mine", edited=False, progress=quiet)
    with pytest.raises(NoSuchControl, match="it has: none: only those of 'cowcatcher kernels build' have some"):
        images.image("mine+fork-ignores-pins")


def test_the_command(cache: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.joinpath("mm/vmscan.c").unlink()
    assert main(["kernels", "build", str(source), "--name", "mine", "--jobs", "1", "--json"]) == 0
    doc = json.loads(capsys.readouterr().out)
    assert doc["image"]["name"] == "mine"
    assert "fork-ignores-pins" in doc["image"]["controls"]
    assert list(doc["image"]["build"]["left_out"]) == ["reclaim-takes-pinned"]
    assert main(["kernels", "images"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "+fork-ignores-pins" in said
    assert "without the control reclaim-takes-pinned: mm/vmscan.c: No such file" in said
    assert main(["kernels", "remove", "mine"]) == 0


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("kernels build", 2, "name one source"),
        ("kernels build 5.10 7.3", 2, "name one source"),
        ("kernels build nowhere", 3, "'nowhere' is no kernel source: name a directory"),
        ("kernels build . --name 6.1", 2, "cannot name a kernel of your own"),
        ("kernels build . --flavour full", 2, "--flavour has no place here"),
        ("kernels build . --jobs 0", 2, "a whole number above 0"),
        ("kernels install 6.1 --jobs 2", 2, "--jobs has no place here"),
        ("kernels images --stock", 2, "--stock has no place here"),
        ("run seed --on nothing+fork-ignores-pins", 2, "there is no kernel 'nothing+fork-ignores-pins'"),
    ],
)
def test_mistakes(
    line: str, status: int, why: str, cache: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == status
    said = capsys.readouterr()
    assert why in said.err
    assert not said.out


def test_an_empty_directory_is_no_source(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="is no kernel source: No such file or directory: Makefile"):
        kernel_build.build(str(tmp_path), "mine", progress=quiet)


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildFailed, match=r"apt install --no-install-recommends make gcc .*\(or: dnf install make gcc"):
        kernel_build.build("5.10", progress=quiet)


# --- the real sources, where they are in the cache


@pytest.mark.parametrize(("series", "generation"), [("5.10", "counting"), ("7.3", "marking")])
def test_every_edit_has_its_place(series: str, generation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _own_cache(monkeypatch)
    trees = sorted((images.home() / "sources").glob(f"linux-source-{series}_*/*/Makefile"))
    if not trees:
        pytest.skip(f"the source of {series} is not in the cache ('cowcatcher kernels build {series}')")
    edited = controls.edit(lambda path: (trees[-1].parent / path).read_text())
    assert edited.set == generation
    assert not edited.left_out
    assert set(edited.rules) == {rule.name for rule in controls.rules() if generation in rule.edits}


def _own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    if CACHE is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", CACHE)


# --- kernels that were built, where there are some


@pytest.fixture
def built(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KernelImage:
    """A kernel with controls, from the user's own cache."""
    _own_cache(monkeypatch)
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")
    try:
        return images.image(request.param)
    except ImageError:
        pytest.skip(f"{request.param} is not there ('cowcatcher kernels build {request.param.partition('-')[0]}')")


@pytest.mark.parametrize("built", BUILDS, indirect=True)
def test_the_whole_catalogue_as_the_model_says(built: KernelImage) -> None:
    """With one of the controls; ``python -m tests.real.controls`` has all of them, and the kernels without."""
    tests = [parse_file(path) for path in PATHS]
    image = images.image(f"{built.name}+fork-ignores-pins")
    one = run_on(tests, [image])[image.name]
    assert not one.lost
    assert len(one.told) > 90
    assert not one.differ


@pytest.mark.parametrize(("built", "broken"), SEED_CONTROLS.items(), indirect=["built"])
def test_the_seeds_bug(built: KernelImage, broken: str) -> None:
    """Where fork ignores pins, the owner moves away from the frame that it has pinned; without the parameter not."""
    (test,) = (parse_file(path) for path in PATHS if path.stem == SEED[0])
    for control, stays in (("", True), (f"+{broken}", False)):
        (seen,) = vm.run_vm([test], images.image(built.name + control), trace=True)
        assert seen.status == "ok", seen.reason
        (pinned,) = seen.pinned.values()
        (owner,) = (page for page in seen.pages if page.process == "parent")
        assert (owner.pfn == pinned) is stays


@pytest.mark.parametrize("built", ["7.3-controls"], indirect=True)
def test_what_a_swap_entry_forgets(built: KernelImage) -> None:
    """No test of the catalogue that can be run shows swap-forgets-exclusive: it takes a reference held over a swap."""
    test = parse("""\
test read_ref_swapped
memory { buf = anon(1) }
process parent {
    pipe = vmsplice(buf)
    madvise(buf, PAGEOUT)
    r = load(buf)
    store(buf, 2)
    post(stored)
}
device reader {
    await(stored)
    d = dma_read(pipe)
}
""")
    for control, read in (("", 2), ("+swap-forgets-exclusive", 1)):
        image = images.image(built.name + control)
        assert predict(test, modelled(vm.version_of(image), image.broken)).registers["d"] == read
        (seen,) = vm.run_vm([test], image)
        assert seen.status == "ok", seen.reason
        assert seen.registers["d"] == read


@pytest.mark.parametrize("built", BUILDS, indirect=True)
def test_a_rule_that_a_kernel_does_not_know_is_a_panic(built: KernelImage) -> None:
    test = parse("test t\nmemory { x = anon(1) }\nprocess p { store(x, 2) }\n")
    (seen,) = vm.run_vm([test], replace(built, broken=("no-such-rule",)))
    assert seen.status == "could not tell"
    log = seen.reason.rpartition("all of it: ")[2].rstrip(")")
    assert "this kernel was built without a rule 'no-such-rule'" in Path(log).read_text()


# --- the page


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("ref = get(buf, WRITE|LONGTERM): only vmsplice's is to be had (io_uring)", "only vmsplice's is to be had"),
        ("p: io = dio_read(heap, NFS): a process waits", "a process waits"),
        ("buf is batched: all share one", "all share one"),
        ("heap: no huge page to be had (see /proc/sys/vm/nr_hugepages)", "no huge page to be had"),
        ("no AF_XDP packet area here: there is none", "no AF_XDP packet area here: there is none"),
    ],
)
def test_reasons_are_grouped(reason: str, short: str) -> None:
    assert page_of_controls._short(reason) == short


def test_a_bar_does_not_end_a_cell() -> None:
    assert page_of_controls._cells("`get(x, WRITE|LONGTERM)`", "3") == r"| `get(x, WRITE\|LONGTERM)` | 3 |"
