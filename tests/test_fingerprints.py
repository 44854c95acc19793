"""Test that clips with changed pictures are encoded again, and no other clips."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from mmdfer.datasets import DFERDataset
from mmdfer.errors import DFERError
from mmdfer.features import EncodedClips, FeatureEncoder, bank, fingerprints
from mmdfer.features.fingerprints import fingerprint_clips
from mmdfer.models.backbones.frame_encoder import FrameEncoder

CLIPS, FRAMES = 6, 4


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to a standard logger, since pytest does not see the messages of mmengine's logger."""
    logger = SimpleNamespace(get_current_instance=lambda: logging.getLogger('test'))
    monkeypatch.setattr('mmdfer.features.extraction.MMLogger', logger)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write six clips of four pictures each, and a large file in place of a video."""
    draw = np.random.default_rng(0)
    for clip in range(CLIPS):
        folder = tmp_path / 'data' / f'{clip:05d}'
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            _draw(folder / f'{frame}.bmp', int(draw.integers(256)))
    (tmp_path / 'data' / 'film.mp4').write_bytes(draw.bytes(1 << 20))
    return tmp_path / 'data'


def _draw(path: Path, grey: int) -> None:
    Image.new('RGB', (16, 16), (grey, 255 - grey, grey // 2)).save(path)


def _prints(root: Path, known: Path | None = None) -> list[str]:
    paths = [root / f'{clip:05d}' for clip in range(CLIPS)] + [root / 'film.mp4']
    return fingerprint_clips([str(path) for path in paths], known or root.parent / 'known.json')


# ------------------------------------------------------------------ fingerprints


def _another_picture(root: Path) -> None:
    _draw(root / '00001' / '2.bmp', 7)


def _another_of_the_same_size_and_time(root: Path) -> None:
    path = root / '00001' / '2.bmp'
    times, size = path.stat(), path.stat().st_size
    _draw(path, 7)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, times.st_mtime_ns)


def _one_more(root: Path) -> None:
    shutil.copy(root / '00001' / '2.bmp', root / '00001' / '4.bmp')


def _one_less(root: Path) -> None:
    (root / '00001' / '3.bmp').unlink()


def _another_order(root: Path) -> None:
    folder = root / '00001'
    (folder / '0.bmp').rename(folder / 'x')
    (folder / '1.bmp').rename(folder / '0.bmp')
    (folder / 'x').rename(folder / '1.bmp')


def _a_link_to_another_folder(root: Path) -> None:
    (root / '00001').rename(root / 'old')
    (root / '00001').symlink_to(root / '00002')


def _a_link_to_another_picture(root: Path) -> None:
    path = root / '00001' / '0.bmp'
    path.unlink()
    path.symlink_to(root / '00002' / '0.bmp')


def _no_folder(root: Path) -> None:
    shutil.rmtree(root / '00001')


def _another_video(root: Path) -> None:
    (root / 'film.mp4').write_bytes(np.random.default_rng(1).bytes(1 << 20))


def _a_longer_video(root: Path) -> None:
    with (root / 'film.mp4').open('ab') as file:
        file.write(b'more')


def _other_bytes_inside_the_video(root: Path) -> None:
    path = root / 'film.mp4'
    times = path.stat()
    with path.open('rb+') as file:
        file.seek(1 << 19)
        file.write(np.random.default_rng(1).bytes(1 << 17))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = [
    (_another_picture, [1]),
    (_another_of_the_same_size_and_time, [1]),
    (_one_more, [1]),
    (_one_less, [1]),
    (_another_order, [1]),
    (_a_link_to_another_folder, [1]),
    (_a_link_to_another_picture, [1]),
    (_no_folder, [1]),
    (_another_video, [CLIPS]),
    (_a_longer_video, [CLIPS]),
    (_other_bytes_inside_the_video, [CLIPS]),
]


@pytest.mark.parametrize(('change', 'clips'), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_a_clip_that_has_changed_has_another_fingerprint(
    change: Callable[[Path], None], clips: list[int], root: Path
) -> None:
    before = _prints(root)
    assert len(set(before)) == CLIPS + 1 and all(len(p) == 16 for p in before)
    change(root)
    after = _prints(root)
    assert [i for i, (a, b) in enumerate(zip(before, after)) if a != b] == clips
    assert after == _prints(
        root, root.parent / 'nothing.json'
    )  # the remembered fingerprints are up to date


def _other_times(root: Path) -> None:
    for path in root.rglob('*.bmp'):
        os.utime(path, (1, 1))


def _a_note_beside_the_pictures(root: Path) -> None:
    for name in ('Thumbs.db', '._0.bmp', '.DS_Store'):
        (root / '00001' / name).write_text('x')


def _a_copy_behind_links(root: Path) -> None:
    root.rename(root.parent / 'elsewhere')
    root.mkdir()
    for path in (root.parent / 'elsewhere').iterdir():
        (root / path.name).symlink_to(path)


@pytest.mark.parametrize(
    'change', [_other_times, _a_note_beside_the_pictures, _a_copy_behind_links]
)
def test_the_same_pictures_have_the_same_fingerprint(
    change: Callable[[Path], None], root: Path
) -> None:
    before = _prints(root)
    change(root)
    assert _prints(root) == before


def test_a_copy_on_another_disk_has_the_same_fingerprints(root: Path, tmp_path: Path) -> None:
    before = _prints(root)
    shutil.copytree(root, tmp_path / 'copy', copy_function=shutil.copyfile)  # with new times
    assert _prints(tmp_path / 'copy') == before


def test_files_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _prints(root)
    read, hash_contents = [], fingerprints._hash_contents
    monkeypatch.setattr(
        fingerprints, '_hash_contents', lambda path: read.append(path) or hash_contents(path)
    )
    assert _prints(root) == before and read == []
    _another_picture(root)
    _prints(root)
    assert read == [str(root / '00001')]
    (root.parent / 'known.json').write_text('{"damaged')
    _prints(root)
    assert len(read) == 1 + CLIPS + 1


def test_the_table_of_fingerprints_does_not_grow_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, '_MOST', 10 * (CLIPS + 1))
    known = root.parent / 'known.json'
    for time in range(25):  # as if each job made its own copy of the data
        for path in root.rglob('*.*'):
            os.utime(path, (time, time))
        _prints(root)
        assert CLIPS < known.read_text().count(':') <= 10 * (CLIPS + 1)


def test_a_fault_in_reading_is_not_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_file = fingerprints._add_file

    def fail(total: object, path: str) -> None:
        if path.endswith('00001/2.bmp'):
            raise OSError('a passing fault')
        add_file(total, path)

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, '_add_file', fail)
        faulty = _prints(root)
    again = _prints(root)
    assert [a != b for a, b in zip(faulty, again)] == [i == 1 for i in range(CLIPS + 1)]
    assert again == _prints(root, root.parent / 'nothing.json')


# ------------------------------------------------------------------ the bank


class Folders(DFERDataset):
    """Provide the folders of pictures in a folder as clips."""

    METAINFO = dict(classes=('a', 'b'), dataset='folders')

    def load_data_list(self) -> list[dict]:
        folders = sorted(Path(self.ann_file).glob('0*'))
        return [dict(filename=str(f), label=int(f.name) % 2, clip=f.name) for f in folders]


class Tower(FrameEncoder):
    """Encode a frame as its mean colour, count the clips, and call functions at given counts.

    Attributes:
        clips: The number of clips encoded so far.
        after: The function to call when the number of clips reaches a key.
    """

    embed_dims = 3

    def __init__(self) -> None:
        super().__init__()
        self.clips, self.after = 0, {}

    @property
    def identity(self) -> dict[str, str]:
        """Return an identity, as an encoder with weights does."""
        return dict(arch='tower', sha256='a')

    @property
    def trains_frames(self) -> bool:
        """Return False, since no weight trains."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames, (N, 3, T, H, W) -> (N, T, 3)."""
        self.clips += len(x)
        self.after.get(self.clips, lambda: None)()
        return x.mean((3, 4)).transpose(1, 2)


PIPELINE = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=FRAMES, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def _encode(
    root: Path, folder: Path, tower: Tower | None = None, **normalise: object
) -> tuple[EncodedClips, int]:
    """Serve the clips of a folder from a bank, and return how many clips were encoded."""
    clips, tower = Folders(str(root), PIPELINE, test_mode=True), tower or Tower()
    part = dict(type='CLIPDataPreprocessor', **{'mean': [0] * 3, 'std': [1] * 3, **normalise})
    encoder = FeatureEncoder(tower, part)
    dataset = EncodedClips(clips, encoder, str(folder), batch_size=1, num_workers=0)
    dataset.full_init()
    return dataset, tower.clips


def _greys(dataset: EncodedClips) -> list[list[int]]:
    """Return the grey value of each frame of each clip, as the vectors give it."""
    return [dataset[i]['features'][0, :, 0].int().tolist() for i in range(len(dataset))]


def _drawn(root: Path) -> list[list[int]]:
    return [
        [Image.open(f).getpixel((0, 0))[0] for f in sorted(folder.glob('*.bmp'))]
        for folder in sorted(root.glob('0*'))
    ]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, 'CLIPS_PER_SHARD', 4)


def test_changed_clips_are_encoded_again_and_the_others_are_not(
    root: Path, tmp_path: Path, caplog
) -> None:
    first, clips = _encode(root, tmp_path / 'bank')
    assert clips == CLIPS and _greys(first) == _drawn(root)
    before = _greys(first)
    _draw(root / '00001' / '2.bmp', 7)
    _draw(root / '00004' / '0.bmp', 9)
    second, clips = _encode(root, tmp_path / 'bank')
    assert clips == 2 and 'the pictures of 2 clips have changed' in caplog.text
    assert _greys(second) == _drawn(root) != before
    assert _greys(first) == before  # a run that reads the bank at the same time
    caplog.clear()
    assert _encode(root, tmp_path / 'bank')[1] == 0 and caplog.text == ''


def test_two_copies_of_a_dataset_share_a_bank(root: Path, tmp_path: Path) -> None:
    _encode(root, tmp_path / 'bank')
    shutil.copytree(root, tmp_path / 'copy', copy_function=shutil.copyfile)
    assert _encode(tmp_path / 'copy', tmp_path / 'bank')[1] == 0
    _draw(tmp_path / 'copy' / '00003' / '3.bmp', 11)  # one clip has other pictures
    other, clips = _encode(tmp_path / 'copy', tmp_path / 'bank')
    assert clips == 1 and _greys(other) == _drawn(tmp_path / 'copy')
    back, clips = _encode(root, tmp_path / 'bank')  # the bank still has these vectors
    assert clips == 0 and _greys(back) == _drawn(root)


def test_an_unfinished_bank_is_completed_with_changed_pictures(root: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill() -> None:
        raise KilledError

    tower = Tower()
    tower.after = {2: kill}  # nothing is written yet
    with pytest.raises(KilledError):
        _encode(root, tmp_path / 'bank', tower)
    old = _drawn(root)
    _draw(root / '00001' / '2.bmp', 7)
    dataset, clips = _encode(root, tmp_path / 'bank')
    assert clips == CLIPS and _greys(dataset) == _drawn(root)
    _draw(root / '00001' / '2.bmp', old[1][2])  # the pictures that were never encoded
    dataset, clips = _encode(root, tmp_path / 'bank')
    assert clips == 1 and _greys(dataset) == old


def test_pictures_that_change_while_they_are_encoded_are_not_kept(
    root: Path, tmp_path: Path
) -> None:
    tower = Tower()
    tower.after = {2: lambda: _draw(root / '00001' / '2.bmp', 7)}
    with pytest.raises(
        DFERError, match=r'00001: the pictures changed while .*; run the same command again'
    ):
        _encode(root, tmp_path / 'bank', tower)
    dataset, _ = _encode(root, tmp_path / 'bank')
    assert _greys(dataset) == _drawn(root)


def test_a_restored_clip_is_encoded(root: Path, tmp_path: Path) -> None:
    pictures = {path: path.read_bytes() for path in (root / '00002').iterdir()}
    for path in pictures:
        path.write_bytes(b'no picture')
    with pytest.raises(DFERError, match='00002'):
        _encode(root, tmp_path / 'bank')
    for path, content in pictures.items():
        path.write_bytes(content)
    dataset, _ = _encode(root, tmp_path / 'bank')
    assert _greys(dataset) == _drawn(root)


def test_another_mean_is_another_bank(root: Path, tmp_path: Path) -> None:
    _encode(root, tmp_path / 'bank')
    before = (tmp_path / 'bank' / 'test' / 'manifest.json').read_bytes()
    with pytest.raises(DFERError, match=r'other settings: mean\.0 was 0\.0, is 1\.0'):
        _encode(root, tmp_path / 'bank', mean=[1, 1, 1])
    assert (tmp_path / 'bank' / 'test' / 'manifest.json').read_bytes() == before


def test_a_bank_without_fingerprints_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    _encode(root, tmp_path / 'bank')
    path = tmp_path / 'bank' / 'test' / 'manifest.json'
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DFERError, match=r'format was 1, is 2; give --bank another folder, or del'):
        _encode(root, tmp_path / 'bank')
