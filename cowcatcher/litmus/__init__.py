"""The litmus language: text to tree and back, with every mistake explained. Knows no kernel and no model."""

from cowcatcher.litmus.checks import check
from cowcatcher.litmus.errors import Diagnostic, LitmusError, nearest
from cowcatcher.litmus.parser import parse, parse_file
from cowcatcher.litmus.printer import (
    claim_text,
    cond_text,
    expect_text,
    format_source,
    place_text,
    statement_text,
    to_text,
)

__all__ = [
    "Diagnostic",
    "LitmusError",
    "check",
    "claim_text",
    "cond_text",
    "expect_text",
    "format_source",
    "nearest",
    "parse",
    "parse_file",
    "place_text",
    "statement_text",
    "to_text",
]
