"""Match parameter names with the patterns that a config lists.

The backbone (``FrozenCLIP.trains``) and the hooks (the stages of BAPHook) use the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_named(name: str, patterns: Iterable[str]) -> bool:
    r"""Return whether the name of a parameter matches at least one of the patterns.

    Args:
        name: Dotted name of the parameter, for example ``visual.conv1.weight``.
        patterns: Regular expressions, which are matched from the start of the name. For example,
            ``visual\.`` matches the image tower of CLIP. ``transformer\.`` matches the
            transformer layers of the text tower but not ``visual.transformer``.
    """
    return any(re.match(pattern, name) for pattern in patterns)
