"""From a name, a release or a range to a kernel."""

from __future__ import annotations

import pytest

from cowcatcher.kernels import LINE, QUESTIONS, UnknownKernel, kernel, kernel_of_release, kernel_range, select


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("v5.9-rc4", "v5.9-rc4"),
        ("5.9-rc6", "v5.9-rc4"),
        ("5.9-rc7", "v5.9"),
        ("v5.4", "v5.7"),
        ("6.8", "v6.5"),
        ("5.10.223", "v5.10.y"),
        ("v5.10.0", "v5.10"),
        ("6.12.107", "v6.12"),
        ("7.9", "v7.3"),
        ("nocop", "nocop"),
    ],
)
def test_kernel(name: str, found: str) -> None:
    assert kernel(name).name == found


@pytest.mark.parametrize(
    ("release", "version", "found"),
    [
        ("6.18.44-fc", "#1 SMP", "v6.15"),
        ("5.10.223", "", "v5.10.y"),
        ("5.10.0-28-amd64", "#1 SMP Debian 5.10.209-2 (2024-01-31)", "v5.10.y"),
        ("6.1.0-25-amd64", "", "v6.1.y"),
        ("5.9.0-rc5+", "#2 SMP", "v5.9-rc4"),
        ("5.9.0", "#2 SMP", "v5.9"),
        ("5.10.0", "#2 SMP", "v5.10"),
        ("5.15.0-91-generic", "#101-Ubuntu SMP", "v5.14"),
    ],
)
def test_running_kernel(release: str, version: str, found: str) -> None:
    assert kernel_of_release(release, version).name == found


@pytest.mark.parametrize("name", ["", "v", "linux", "v5.x", "5.10.y.z", "prekop"])
def test_unknown(name: str) -> None:
    with pytest.raises(UnknownKernel):
        kernel(name)


def test_ranges_run_along_the_line() -> None:
    assert [k.name for k in kernel_range("v5.8", "v5.9")] == ["v5.8", "v5.9-rc4", "v5.9"]
    assert kernel_range(None, None) == LINE
    with pytest.raises(UnknownKernel, match="empty"):
        kernel_range("v6.0", "v5.9")
    with pytest.raises(UnknownKernel, match="beside"):
        kernel_range("nocop", None)
    assert [k.name for k in select("v5.8,5.10.y")] == ["v5.8", "v5.10.y"]


def test_every_kernel_answers_every_question() -> None:
    for k in select("all"):
        assert set(k.decisions) == set(QUESTIONS)
