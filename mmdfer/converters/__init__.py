"""Convert checkpoints that authors of compared methods publish to the format of this package."""

from mmdfer.converters.class_order import DATASETS
from mmdfer.converters.importing import METHODS, Imported, import_checkpoint

__all__ = ['DATASETS', 'METHODS', 'Imported', 'import_checkpoint']
