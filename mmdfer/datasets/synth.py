"""The synthetic benchmark as a dataset, made where it is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine import dist

from mmaction.registry import DATASETS

from mmdfer.datasets.base import DFERDataset
from mmdfer.errors import DFERError
from mmdfer.synthetic.benchmark import GENERATOR, make_benchmark
from mmdfer.synthetic.emotions import CLASSES

SPLITS = ('train', 'test', 'fit', 'heldout')


@DATASETS.register_module()
class SynthDFER(DFERDataset):
    """The synthetic DFER benchmark (``docs/synthetic.md``); no licensed data, no download.

    It is made in ``data_root`` on first use, by rank 0, and completed if a making was interrupted.

    Args:
        data_root: Where it lies or is to be made.
        split: ``train`` or ``test``; or ``fit`` or ``heldout``, the training set in two parts of
            different identities, to tune on.
        num_train: Training clips.
        num_test: Test clips.
        make_seed: Of the benchmark itself.
        kwargs: As for DFERDataset.

    Raises:
        DFERError: An unknown split, or a root that holds a benchmark made with other arguments.
    """

    METAINFO = dict(classes=CLASSES, dataset='synth')

    def __init__(
        self,
        data_root: str = 'data/synth',
        split: str = 'train',
        num_train: int = 1400,
        num_test: int = 700,
        make_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise DFERError(f'SynthDFER: split={split!r} is none of {", ".join(SPLITS)}')
        if dist.is_main_process():
            make_benchmark(data_root, num_train=num_train, num_test=num_test, seed=make_seed)
        dist.barrier()
        self._made = dict(num_train=num_train, num_test=num_test, make_seed=make_seed)
        super().__init__(ann_file=str(Path(data_root) / f'{split}.txt'), **kwargs)

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of the benchmark: others draw other clips under the same names."""
        return {**super().source, **self._made, 'generator': GENERATOR}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the lines ``videos/train/00001.mp4 4`` of a split."""
        root, data = Path(self.ann_file).parent, []
        specs = map(json.loads, (root / 'clips.jsonl').read_text().splitlines())
        people = {f'{spec["split"]}/{spec["id"]}': spec['identity'] for spec in specs}
        for number, line in enumerate(Path(self.ann_file).read_text().splitlines(), 1):
            name, _, label = line.rpartition(' ')
            clip = name.removeprefix('videos/').removesuffix('.mp4')
            if clip not in people or not label.isdigit() or int(label) >= len(CLASSES):
                raise DFERError(
                    f'{self.ann_file}:{number}: {line!r} is not a clip of this benchmark with a '
                    f'label in 0..{len(CLASSES) - 1}: delete {root} and it is made anew'
                )
            filename = str(root / name)
            data.append(dict(filename=filename, label=int(label), clip=clip, identity=people[clip]))
        return data
