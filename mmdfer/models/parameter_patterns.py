"""Which parameters a list of patterns names: one rule for backbones and hooks."""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a parameter is named by one of the patterns.

    Args:
        name: The parameter's, with dots: ``visual.conv1.weight``.
        patterns: Regular expressions, matched from the start of the name: ``visual\\.`` names the
            image tower, and ``transformer\\.`` the text tower's layers without
            ``visual.transformer``.
    """
    return any(re.match(pattern, name) for pattern in patterns)
