"""What the strace of this machine says of one program, in every format: the same events each time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cowcatcher.audit.events import Event, Execed, Exited, Forked, Mapped, OpenedDirect, Pinned, Signalled, Unmapped
from cowcatcher.audit.strace import events, open_trace
from tests.audit.strace.text import lost

PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void *thread(void *p) { return p; }

int main(int argc, char **argv)
{
	char *p = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec buffers[40];
	char params[120] = { 0 };
	pthread_t t;
	int ring, i;

	madvise(p, 8192, MADV_DONTFORK);
	open(argv[1], O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	for (i = 0; i < 40; i++)
		buffers[i] = (struct iovec){ p + i % 16 * 4096, 4096 };
	ring = syscall(SYS_io_uring_setup, 8, params);
	syscall(SYS_io_uring_register, ring, 0, buffers, 3);
	syscall(SYS_io_uring_register, ring, 1, 0, 0);
	pthread_create(&t, 0, thread, 0);
	pthread_join(t, 0);
	if (!fork())
		_exit(7);
	wait(0);
	if (!vfork())
		_exit(3);
	wait(0);
	if (!fork())
		*(volatile char *)p = 1;
	wait(0);
	if (!fork())
		execl("/bin/true", "true", NULL);
	wait(0);
	munmap(mremap(p + 4 * 4096, 4096, 65536, MREMAP_MAYMOVE), 65536);
	return 5;
}
"""

FORMATS = {
    "-f": ["-f"],
    "abbreviated times": ["-f", "-t"],
    "times": ["-f", "-tt", "-T"],
    "seconds": ["-f", "-ttt", "-y"],
    "differences": ["-f", "-r"],
    "differences and times": ["-f", "-r", "-tt", "-n"],
    "pointers": ["-f", "-i", "-yy"],
    "numbers": ["-f", "-X", "raw"],
    "names and numbers": ["-f", "-X", "verbose", "-v"],
    "raw": ["-f", "-e", "raw=mmap,munmap,clone,mremap"],
    "everything": ["-f", "-n", "-i", "-r", "-tt", "-T", "-X", "raw", "-yy", "-Y"],
}  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    strace, compiler = shutil.which("strace"), shutil.which("cc")
    if not strace or not compiler:
        pytest.skip("strace or a C compiler is missing")
    path = tmp_path_factory.mktemp("recorded")
    (path / "f.c").write_text(PROGRAM)
    subprocess.run([compiler, "-o", path / "f", path / "f.c", "-lpthread"], check=True)
    if subprocess.run([strace, "-o", "/dev/null", "/bin/true"], check=False).returncode:
        pytest.skip("strace may not trace here")
    return path


def record(program: Path, options: list[str], *, terminal: bool = False) -> list[Event]:
    trace = program / "trace"
    command = ["strace", *options, *([] if terminal else ["-o", str(trace)]), program / "f", program / "data"]
    said = subprocess.run(command, stderr=subprocess.PIPE, check=False).stderr
    if terminal:
        trace.write_bytes(said)
    return list(events(open_trace(str(trace))))


def of_the_program(happened: list[Event]) -> list[str]:
    """Without what differs from run to run, from the program's own first mapping on, one task after another."""
    tasks: dict[int, int] = {}
    said: dict[int, list[str]] = {}
    started = False
    for event in happened:
        started = started or (isinstance(event, Mapped) and event.range.size == 1 << 16 and event.anonymous)
        if not started or (isinstance(event, Mapped | Unmapped) and event.range.size != 1 << 16):
            continue
        words = [type(event).__name__]
        match event:
            case Forked():
                tasks[event.child] = len(tasks)
                words += [str(event.shares_mm), str(event.thread)]
            case Exited():
                words += [str(event.status), event.signal]
            case Pinned():
                words += [str(len(event.ranges)), event.interface]
            case Signalled():
                words += [event.signal, event.code]
            case Execed() | OpenedDirect():
                words += [event.path]
        said.setdefault(tasks.get(event.task, -1), []).append(" ".join(words))
    return [f"{task}: {text}" for task in sorted(said) for text in said[task]]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same(program: Path, name: str) -> None:
    expected = of_the_program(record(program, ["-f"]))
    happened = record(program, FORMATS[name])
    assert not [reason for reason in lost(happened) if "io_uring is not" not in reason]
    found = of_the_program(happened)
    if name == "raw":  # open() is seen, but an O_DIRECT file is the same in all of them
        assert [line.split()[1] for line in found] == [line.split()[1] for line in expected]
    else:
        assert found == expected
    kinds = {line.split()[1] for line in found}
    assert {"Mapped", "Advised", "OpenedDirect", "Forked", "Exited", "Signalled", "Execed", "Moved"} <= kinds
    assert any("Forked True True" in line for line in found)
    assert any("Forked True False" in line for line in found)


def test_the_terminal_format_says_the_same(program: Path) -> None:
    assert of_the_program(record(program, ["-f"], terminal=True)) == of_the_program(record(program, ["-f"]))


def test_one_task_alone(program: Path) -> None:
    """Without -f the children are not there, and no line has a number."""
    happened = record(program, [])
    assert not [reason for reason in lost(happened) if "io_uring is not" not in reason]
    children = {event.child for event in happened if isinstance(event, Forked)}
    assert len({event.task for event in happened} - children) == 1
    assert all(isinstance(event, Exited) for event in happened if event.task in children)  # as their parent was told
    assert happened[0].task > 1
    last = happened[-1]
    assert isinstance(last, Exited)
    assert last.status == 5
