"""mmdfer: dynamic facial expression recognition with a frozen CLIP, in MMAction2.

Importing the package registers its models, datasets, transforms, metrics and hooks in MMAction2's
registries, which is what ``custom_imports=dict(imports=['mmdfer'])`` in a config asks for.
"""

from importlib.util import find_spec

if find_spec('mmengine') is None:  # every mmcv brings it, and compat needs it to say more
    raise ImportError('mmdfer needs mmcv 2.1, or mmcv-lite: pip install "mmcv-lite>=2.1,<2.2"')

from mmdfer import compat
from mmdfer.version import __version__

compat.apply()  # before the first import of mmaction.models, which upstream releases break

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
