"""Define SynthDFER, the dataset of the synthetic benchmark, which is rendered on first use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine import dist

from mmaction.registry import DATASETS

from mmdfer.datasets.base import DFERDataset
from mmdfer.errors import DFERError
from mmdfer.synthetic.benchmark import make_benchmark
from mmdfer.synthetic.domains import SHADED, find_domain
from mmdfer.synthetic.emotions import CLASSES, FPS, MAX_FRAMES
from mmdfer.synthetic.levels import make_levels

DATA_ROOT = 'data/synth'
SPLITS = ('train', 'test', 'fit', 'heldout')


@DATASETS.register_module()
class SynthDFER(DFERDataset):
    """Load the synthetic DFER benchmark (``docs/synthetic.md``), which needs no licensed data.

    On first use, rank 0 renders the benchmark in ``data_root``. Nothing is downloaded. If rendering
    was interrupted, the next use renders the rest.

    Args:
        data_root: Folder of the benchmark. The benchmark is rendered there if the folder is empty
            or missing.
        split: ``train`` or ``test``. For tuning hyperparameters, ``fit`` and ``heldout`` are two
            parts of the training split that show different faces.
        num_train: Number of training clips to render.
        num_test: Number of test clips to render.
        make_seed: Random seed with which the benchmark is rendered.
        domain: Name of the domain, ``shaded`` or ``comic``, another style with other people. Each
            domain needs a folder of its own.
        levels: Folder of the masks, landmarks and captions that LoadLevels reads (docs/levels.md).
            They are made there if the folder is empty or missing. By default, none are made.
        kwargs: Further arguments of DFERDataset.

    Raises:
        DFERError: If the split or the domain is unknown.
        DFERError: If ``data_root`` or ``levels`` holds files that were made with other arguments.
    """

    # The clips show a face as `mmdfer.faces.crop_face` cuts it with this margin around the box that
    # CenterFace finds. Measured on 1,050 frames of the benchmark, drawn at 80 to 400 pixels into a
    # picture of 640 x 480: the margin is 0.123 on average, with a standard deviation of 0.038.
    # The margin was not measured for the second domain, whose heads are 7 % smaller in the frame.
    # A window on a film lasts as long as the longest clip, so that it contains the whole course of
    # an expression.
    METAINFO = dict(
        classes=CLASSES,
        dataset='synth',
        face_crop=dict(margin=0.12, size=112),
        clip_seconds=MAX_FRAMES / FPS,
    )

    def __init__(
        self,
        data_root: str = DATA_ROOT,
        split: str = 'train',
        num_train: int = 1400,
        num_test: int = 700,
        make_seed: int = 0,
        domain: str = SHADED.name,
        levels: str | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise DFERError(f'SynthDFER: split must be one of {", ".join(SPLITS)}, got {split!r}')
        self.domain = find_domain(domain)
        self.levels = levels
        made: dict[str, Any] = dict(num_train=num_train, num_test=num_test)
        self._made = {**made, 'make_seed': make_seed, **self.domain.mark}
        self._arguments = dict(made, seed=make_seed, domain=domain)
        super().__init__(ann_file=str(Path(data_root) / f'{split}.txt'), **kwargs)
        self._metainfo['dataset'] = self.domain.dataset

    def full_init(self) -> None:
        """Make what is missing of the benchmark, and read the label file of the split.

        The constructor does not make the benchmark with ``lazy_init=True``, so that a dataset can
        also be built before the ranks of a run can wait for each other.
        """
        if not self._fully_initialized:
            if dist.is_main_process():
                make_benchmark(Path(self.ann_file).parent, **self._arguments)
                if self.levels is not None:
                    make_levels(self.levels, **self._arguments)
            dist.barrier()
        super().full_init()

    @property
    def source(self) -> dict[str, Any]:
        """Return the settings, as JSON values, on which the pictures of a named clip depend.

        They include the arguments with which the benchmark was rendered, because other arguments
        render different clips under the same names.
        """
        return {**super().source, **self._made, 'generator': self.domain.version}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the label file of the split, with lines such as ``videos/train/00001.mp4 4``."""
        root, data = Path(self.ann_file).parent, []
        specs = map(json.loads, (root / 'clips.jsonl').read_text().splitlines())
        people = {f'{spec["split"]}/{spec["id"]}': spec['identity'] for spec in specs}
        for number, line in enumerate(Path(self.ann_file).read_text().splitlines(), 1):
            name, _, label = line.rpartition(' ')
            clip = name.removeprefix('videos/').removesuffix('.mp4')
            if clip not in people or not label.isdigit() or int(label) >= len(CLASSES):
                raise DFERError(
                    f'{self.ann_file}:{number}: {line!r} is not a clip of this benchmark with a '
                    f'label in 0..{len(CLASSES) - 1}; delete {root}, and the benchmark is rendered '
                    'again'
                )
            filename = str(root / name)
            data.append(dict(filename=filename, label=int(label), clip=clip, identity=people[clip]))
        return data
