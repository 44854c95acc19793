"""Define the licensed datasets DFEW, FERV39k and MAFW."""

from mmdfer.datasets.licensed.dfew import DFEW
from mmdfer.datasets.licensed.ferv39k import FERV39k
from mmdfer.datasets.licensed.mafw import MAFW

__all__ = [
    'DFEW',
    'FERV39k',
    'MAFW',
]
