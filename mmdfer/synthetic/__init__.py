"""Generate a synthetic benchmark of dynamic facial expressions; see docs/synthetic.md."""

from .benchmark import EXTRAS, make_benchmark, read_specs
from .domains import DOMAINS, Domain
from .emotions import CLASSES, ClipSpec, curves, describe, make_identities, make_specs
from .faces import (
    AU_NAMES,
    AUS,
    PARTS,
    Identity,
    Shot,
    render,
    render_parts,
    sample_identity,
    sample_shot,
)

__all__ = [
    'AUS',
    'AU_NAMES',
    'CLASSES',
    'DOMAINS',
    'EXTRAS',
    'PARTS',
    'ClipSpec',
    'Domain',
    'Identity',
    'Shot',
    'curves',
    'describe',
    'make_benchmark',
    'make_identities',
    'make_specs',
    'read_specs',
    'render',
    'render_parts',
    'sample_identity',
    'sample_shot',
]
