"""Real kernels in the cache, and what became of an installation: as dictionaries and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cowcatcher.real.images import KernelImage, Outcome, Plan, disk_use, free_space, home
from cowcatcher.real.kernel_build import Built
from cowcatcher.report.record import Record, document
from cowcatcher.report.style import Style, columns, counted, wrapped


def images_document(images: Sequence[KernelImage]) -> Record:
    return document("kernels images", images=[image_record(i) for i in images], disk=disk_record())


def disk_record() -> Record:
    return {"place": str(home()), "used": disk_use(), "free": free_space()}


def image_record(image: KernelImage) -> Record:
    return {
        "name": image.name,
        "release": image.release,
        "flavour": image.flavour,
        "from": image.record["from"] if image.record["packages"] else "own build",
        "file": None if image.record["packages"] or "build" in image.record else image.record["from"],
        "vmlinux": str(image.vmlinux),
        "modules": _path(image.modules),
        "config": _path(image.config),
        "sizes": {
            "vmlinux": _allocated(image.vmlinux),
            "modules": disk_use(image.modules) if image.modules else 0,
            "all": disk_use(image.place),
        },
        "modules_verified_by": _verified_by(image),
        "packages": list(image.record["packages"]),
        "missing": list(image.record.get("missing", [])),
        "installed": image.record["installed"],
        "build": image.record.get("build"),
        "controls": list(image.controls),
    }


def _verified_by(image: KernelImage) -> str | None:
    if not image.modules or not image.record["packages"]:
        return None
    return "key of the kernel" if image.record.get("modules_from_pool") else "signed index"


def _allocated(file: Path) -> int:
    return file.stat().st_blocks * 512


def _path(path: Path | None) -> str | None:
    return str(path) if path else None


def images_text(doc: Record, style: Style) -> str:
    if not doc["images"]:
        return "No kernel is installed yet. Next: cowcatcher kernels install all (or one of them, such as 6.12)\n"
    rows = [["name", "release", "flavour", "vmlinux", "modules", "disk", "from"]]
    rows += [_row(image) for image in doc["images"]]
    first, *lines = columns(rows, right=frozenset({3, 4, 5}))
    lines = [style.strong(first), *lines]
    notes = [(i, note) for i in doc["images"] for note in _notes(i)]
    lines += [line for i, note in notes for line in wrapped(f"{i['name']}: {note}", style.width, "", "  ")]
    return "\n".join([*lines, *_disk_lines(doc["disk"], style)]) + "\n"


def _row(image: Record) -> list[str]:
    sizes = image["sizes"]
    modules = mb(sizes["modules"]) if image["modules"] else "none"
    return [
        image["name"],
        image["release"],
        image["flavour"],
        mb(sizes["vmlinux"]),
        modules,
        mb(sizes["all"]),
        image["from"],
    ]


def _notes(image: Record) -> list[str]:
    """What is not as it usually is."""
    notes = [f"incomplete: {lacking}" for lacking in image["missing"]]
    if image["file"]:
        notes.append(
            f"made from {image['file']}" + (f", with modules in {image['modules']}" if image["modules"] else "")
        )
    if image["build"]:
        notes += _build_notes(image["build"], image["controls"])
    if image["modules_verified_by"] == "key of the kernel":
        notes.append(
            "the signed index no longer lists its modules; they came from the pool, and each is verified by the key in "
            "the kernel before it is used"
        )
    return notes


def _build_notes(build: Record, controls: Sequence[str]) -> list[str]:
    commit = f", {build['commit']}" if "commit" in build else ""
    notes = [f"built from {build['source']}{commit} by {build['compiler']}"]
    if controls:
        notes.append("controls: " + ", ".join(f"+{name}" for name in controls))
    notes += [f"without the control {rule}: {why}" for rule, why in build.get("left_out", {}).items()]
    return notes


def _disk_lines(disk: Record, style: Style) -> list[str]:
    text = f"Kernels and package indexes take {mb(disk['used'])} in {disk['place']}; {mb(disk['free'])} are free there."
    return wrapped(text, style.width)


def plans_text(plans: Sequence[Plan], disk: Record, style: Style) -> str:
    """What is about to be fetched, and what there is room for."""
    lines = _disk_lines(disk, style)
    wanted = [p for p in plans if p.candidates]
    if wanted:
        names = ", ".join(f"{p.name} ({p.candidates[0].release})" for p in wanted)
        fetched, space = sum(p.download for p in wanted), sum(p.space for p in wanted)
        lines += wrapped(f"To fetch: {mb(fetched)} for {names}; installed about {mb(space)}.", style.width, "", "  ")
    return "\n".join(lines) + "\n"


def outcome_record(outcome: Outcome) -> Record:
    state = "here already" if outcome.already else "installed" if outcome.image else "could not be had"
    return {
        "name": outcome.name,
        "outcome": state,
        "missing": list(outcome.missing),
        "seconds": round(outcome.seconds, 3),
        "downloaded": outcome.downloaded,
        "image": image_record(outcome.image) if outcome.image else None,
    }


def outcome_text(record: Record, style: Style) -> str:
    """One kernel as soon as it is done."""
    image, state = record["image"], record["outcome"]
    if image is None:
        why = "; ".join(record["missing"])
        return "\n".join(wrapped(f"{record['name']}: {style.unsure(state)}: {why}", style.width, "", "  ")) + "\n"
    text = f"{record['name']}: {style.good(state)}: {image['release']}, {mb(image['sizes']['all'])} on disk"
    if image["packages"] and state == "installed":
        text += f", {mb(record['downloaded'])} fetched from {image['from']}, {record['seconds']:.1f} seconds"
    lines = wrapped(text, style.width, "", "  ")
    for note in _notes(image):
        lines += wrapped(note, style.width, "  ", "  ")
    return "\n".join(lines) + "\n"


def install_document(before: Record, outcomes: Sequence[Record]) -> Record:
    return document("kernels install", before=before, kernels=list(outcomes), after=disk_record())


def install_text(doc: Record, style: Style) -> str:
    lacking = [k["name"] for k in doc["kernels"] if not all_had(k)]
    lines = _disk_lines(doc["after"], style)
    if lacking:
        lines.append(f"Not had, or not whole: {', '.join(lacking)}. What was downloaded is kept for the next time.")
    return "\n".join(lines) + "\n"


def all_had(outcome: Record) -> bool:
    return outcome["image"] is not None and not outcome["missing"]


def registered_text(doc: Record, style: Style) -> str:
    return "".join(outcome_text(record, style) for record in doc["kernels"])


def build_progress_text(name: str, doing: str, steps: int) -> str:
    return f"{name}: {doing}" + (f": {counted(steps, 'step')} of make" if steps else "")


def build_document(before: Record, built: Built) -> Record:
    return document(
        "kernels build",
        before=before,
        seconds=round(built.seconds, 3),
        steps=built.steps,
        log=str(built.log),
        image=image_record(built.image),
        after=disk_record(),
    )


def build_text(doc: Record, style: Style) -> str:
    image = doc["image"]
    text = f"{image['name']}: {style.good('built')}: {image['release']}, {counted(doc['steps'], 'step')} of make in "
    text += f"{doc['seconds']:.0f} seconds (log: {doc['log']})"
    lines = wrapped(text, style.width, "", "  ")
    for note in _notes(image):
        lines += wrapped(note, style.width, "  ", "    ")
    return "\n".join([*lines, *_disk_lines(doc["after"], style)]) + "\n"


def remove_document(freed: dict[str, int]) -> Record:
    return document("kernels remove", removed=[{"name": n, "freed": f} for n, f in freed.items()], after=disk_record())


def remove_text(doc: Record, style: Style) -> str:
    total = sum(r["freed"] for r in doc["removed"])
    names = ", ".join(r["name"] for r in doc["removed"])
    lines = [f"Removed {counted(len(doc['removed']), 'kernel')}: {names}; {mb(total)} freed."]
    return "\n".join([*lines, *_disk_lines(doc["after"], style)]) + "\n"


def progress_text(name: str, doing: str, done: int, total: int) -> str:
    """``6.1: downloading 12 of 26 MB``."""
    if not total:
        return f"{name}: {doing}" + (f" {mb(done)}" if done else "")
    return f"{name}: {doing} {done // 1_000_000} of {mb(total)}"


def mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 10e9 else f"{size / 1e9:,.0f} GB"
