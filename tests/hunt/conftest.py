import pytest

pytest.importorskip("numba", reason="a hunt is compiled by numba, which is not installed")
