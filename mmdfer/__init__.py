"""Provide dynamic facial expression recognition with a frozen CLIP as a plug-in for MMAction2.

Importing the package registers its models, datasets, transforms, metrics and hooks in MMAction2's
registries. A config imports the package with ``custom_imports=dict(imports=['mmdfer'])``.
"""

from importlib.util import find_spec

# compat.require_mmcv cannot report a missing mmcv without mmengine, which every mmcv depends on.
if find_spec('mmengine') is None:
    raise ImportError('mmdfer needs mmcv 2.1 or mmcv-lite: pip install "mmcv-lite>=2.1,<2.2"')

from mmdfer import compat
from mmdfer.version import __version__

compat.apply()  # must come before the first import of mmaction.models, which fails without it

from mmdfer import datasets, engine, evaluation, features, models  # noqa: E402
from mmdfer.errors import DFERError  # noqa: E402

__all__ = [
    'DFERError',
    '__version__',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'features',
    'models',
]
