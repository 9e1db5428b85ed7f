"""``kernels install``, ``kernels images`` and ``kernels remove``: real kernels to boot, in the user's cache."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from cowcatcher.cli import screen
from cowcatcher.cli.parser import FINE, UNSURE, Problem, positive
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style

VERBS = ("install", "build", "images", "remove")
_OPTIONS = {
    "flavour": "--flavour", "mirror": "--mirror", "image": "--image", "modules": "--modules", "name": "--name",
    "jobs": "--jobs", "stock": "--stock",
}  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("real kernels", "with install, or build")
    group.add_argument("--flavour", choices=("cloud", "full"), help="cloud (default): small; full: RDMA, NFS and more")
    group.add_argument("--mirror", metavar="URL", help="Debian mirror (default: the one apt uses on this machine)")
    group.add_argument("--image", metavar="FILE", help="register a bzImage or vmlinux that you have built")
    group.add_argument("--modules", metavar="DIR", help="with --image: where its modules are; they stay there")
    group.add_argument("--name", metavar="NAME", help="with --image, or build: what to call it")
    group.add_argument(
        "--jobs", "-j", type=positive, metavar="N", help="with build: compilers at once (default: one a core)"
    )
    group.add_argument("--stock", action="store_true", default=None, help="with build: without known-bad variants")


def no_options(args: argparse.Namespace, but: Sequence[str] = ()) -> None:
    """Refuse options that would be ignored."""
    for name, option in _OPTIONS.items():
        if name not in but and getattr(args, name) is not None:
            raise Problem(f"kernels: {option} has no place here\nTry 'cowcatcher kernels --help'.")


def run(args: argparse.Namespace) -> int:
    from cowcatcher.real.archive import ArchiveError
    from cowcatcher.real.controls import NoPlace
    from cowcatcher.real.images import ImageError
    from cowcatcher.real.kernel_build import BuildFailed

    verb, *names = args.words
    does: dict[str, Callable[[argparse.Namespace, list[str], Style], int]] = {
        "install": _register if args.image else _install,
        "build": _build,
        "images": _images,
        "remove": _remove,
    }
    try:
        return does[verb](args, names, screen.style_of(args))
    except ImageError as error:
        raise Problem(f"kernels {verb}: {error}") from error
    except (ArchiveError, BuildFailed, NoPlace) as error:
        raise Problem(f"kernels {verb}: {error}", UNSURE) from error


def _install(args: argparse.Namespace, names: list[str], style: Style) -> int:
    from cowcatcher.real import images
    from cowcatcher.report import images_text as text

    no_options(args, but=("flavour", "mirror"))
    if not names:
        raise Problem(f"kernels install: name the kernels, or all; there are: {', '.join(images.SERIES)}")
    before = text.disk_record()
    line = screen.Progress()
    outcomes = []

    def show(name: str, doing: str, done: int, total: int) -> None:
        line.show(text.progress_text(name, doing, done, total))

    try:
        plans = images.plan(names, args.flavour or "cloud", args.mirror or "", show)
        line.clear()
        if not args.json:
            screen.write(text.plans_text(plans, before, style))
        for outcome in images.install(plans, show):
            record = text.outcome_record(outcome)
            outcomes.append(record)
            line.clear()
            if not args.json:
                screen.write(text.outcome_text(record, style))
    finally:
        line.clear()
    _show(args, doc := text.install_document(before, outcomes), text.install_text(doc, style))
    return FINE if all(map(text.all_had, outcomes)) else UNSURE


def _register(args: argparse.Namespace, names: list[str], style: Style) -> int:
    from cowcatcher.real import images
    from cowcatcher.report import images_text as text

    no_options(args, but=("image", "modules", "name"))
    if names or not args.name:
        raise Problem("kernels install: --image goes with --name NAME, and with no other kernel in the same command")
    before = text.disk_record()
    tree = Path(args.modules) if args.modules else None
    image = images.register(Path(args.image), args.name, tree)
    record = text.outcome_record(images.Outcome(image.name, image))
    _show(args, doc := text.install_document(before, [record]), text.registered_text(doc, style))
    return FINE


def _build(args: argparse.Namespace, names: list[str], style: Style) -> int:
    from cowcatcher.real import kernel_build
    from cowcatcher.report import images_text as text

    no_options(args, but=("mirror", "name", "jobs", "stock"))
    if len(names) != 1:
        raise Problem("kernels build: name one source: 5.10, 7.3, a .tar.xz, or the directory of a kernel's source")
    line = screen.Progress()
    before = text.disk_record()
    try:
        built = kernel_build.build(
            names[0], args.name or "", jobs=args.jobs or 0, edited=not args.stock, mirror=args.mirror or "",
            progress=lambda name, doing, steps: line.show(text.build_progress_text(name, doing, steps)),
        )  # fmt: skip
    finally:
        line.clear()
    _show(args, doc := text.build_document(before, built), text.build_text(doc, style))
    return FINE


def _images(args: argparse.Namespace, names: list[str], style: Style) -> int:
    from cowcatcher.real import images
    from cowcatcher.report import images_text as text

    no_options(args)
    found = [images.image(name) for name in names] or images.installed()
    _show(args, doc := text.images_document(found), text.images_text(doc, style))
    return FINE


def _remove(args: argparse.Namespace, names: list[str], style: Style) -> int:
    from cowcatcher.real import images
    from cowcatcher.report import images_text as text

    no_options(args)
    if not names:
        raise Problem("kernels remove: name the kernels; 'cowcatcher kernels images' lists them")
    for name in names:
        images.image(name)  # all of them or none
    freed = {name: images.remove(name) for name in dict.fromkeys(names)}
    _show(args, doc := text.remove_document(freed), text.remove_text(doc, style))
    return FINE


def _show(args: argparse.Namespace, doc: Record, text: str) -> None:
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(text)
