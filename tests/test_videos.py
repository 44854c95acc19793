"""Test reading videos of many kinds; each frame shows its number, which the tests read."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import trees
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from benchmarks import videos as files
from mmdfer.datasets.base import DFERDataset
from mmdfer.datasets.transforms import video_reader as videos
from mmdfer.datasets.transforms.containers import find_damage
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError, UnreadableClipError

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip('imageio_ffmpeg', reason='needs an ffmpeg: pip install imageio-ffmpeg')

# The numbers of the frames in each undamaged file.
WHOLE: dict[str, range] = {
    'plain.mp4': range(40),
    'plain.mkv': range(40),
    'xvid.avi': range(40),
    'open_gop.mkv': range(40),
    'trimmed.mp4': range(58, 120),
    'moving.gif': range(40),
    'live.webm': range(40),
    'av1.mp4': range(40),
    'bt709_full.mp4': range(40),
    'joined.ts': range(40),
    'mpeg.mpg': range(40),
    'hevc.mp4': range(40),
    'middle.ts': range(24, 40),
    'take:12, 100%d.mp4': range(40),
}
CUTS = [f'cut_{share}.mp4' for share in (5, 30, 50, 70, 95)]
CUTS += ['cut.mkv', 'cut.webm', 'cut_xvid.avi', 'cut_mjpeg.avi', 'cut.gif', 'cut.mpg']
DAMAGED = [*CUTS, 'zeros.mp4', 'zeros.mkv', 'zeros.avi', 'hole.ts', 'damaged_hevc.mp4', 'huge.gif']
DAMAGED += ['zeros_trimmed.mp4', 'sound.mp4', 'text.mp4', 'empty.mp4', 'matrix.mov']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make all files once."""
    folder = tmp_path_factory.mktemp('films')

    def encode(name: str, *arguments: object, **options: Any) -> bytes:
        files.encode(folder / name, *arguments, **options)
        return (folder / name).read_bytes()

    h264, xvid = files.X264, (*files.MPEG4, '-bf', 2)
    plain = encode('plain.mp4', *h264, '-bf', 3, '-g', 250, '-movflags', '+faststart')
    mkv = encode('plain.mkv', *h264, '-bf', 3)
    avi = encode('xvid.avi', *xvid)
    encode('open_gop.mkv', *h264, '-bf', 3, '-g', 12, '-x264-params', 'open-gop=1')
    encode('film.mp4', *h264, '-bf', 3, '-g', 60, frames=range(120))
    cut = ('-ss', 58 / 25, '-i', folder / 'film.mp4', '-c', 'copy')
    files.run_ffmpeg(*cut, folder / 'trimmed.mp4')
    gif = encode('moving.gif')
    live = files.encode('-', *files.VP8, '-f', 'webm', '-live', 1)
    encode('av1.mp4', '-c:v', 'libsvtav1', '-preset', 10, '-crf', 30, '-pix_fmt', 'yuv420p')
    scale = ('-vf', 'scale=out_color_matrix=bt709:out_range=pc', '-colorspace', 'bt709')
    full = ('-color_range', 'pc', '-c:v', 'libx264', '-pix_fmt', 'yuv444p', '-crf', 10)
    encode('bt709_full.mp4', *scale, *full, size=(127, 101))
    first = encode('first.ts', *h264, frames=range(20))
    second = encode('second.ts', *h264, frames=range(20, 40), size=(192, 96))
    mpg = encode('mpeg.mpg', '-c:v', 'mpeg2video', '-bf', 2, '-q:v', 3)
    hevc = encode('hevc.mp4', *files.X265, 'log-level=none', '-pix_fmt', 'yuv420p')
    keys = 'log-level=none:keyint=12:min-keyint=12:scenecut=0:open-gop=0'
    tables = ('-mpegts_flags', '+pat_pmt_at_frames', '-pix_fmt', 'yuv420p')
    source = encode('source.ts', *files.X265, keys, *tables)
    with av.open(str(folder / 'source.ts')) as container:
        places = [p.pos for p in container.demux(video=0) if p.is_keyframe]
    encode('stored.mp4', *h264, '-g', 1, size=(160, 96), frames=range(3))
    mjpeg = encode('mjpeg.avi', '-c:v', 'mjpeg', '-q:v', 3)
    prores = encode('prores.mov', '-c:v', 'prores_ks', frames=range(3))
    files.run_ffmpeg('-f', 'lavfi', '-i', 'sine=d=1', folder / 'sound.m4a')

    def write(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)

    write('live.webm', live)
    write('middle.ts', source[(places[1] + places[2]) // 2 // 188 * 188 :])
    write('joined.ts', first + second)
    write('take:12, 100%d.mp4', plain)
    for index, matrix in enumerate(files.MATRICES.values()):
        files.write_matrix(folder / 'stored.mp4', folder / f'turned_{index}.mp4', matrix)
    for share in (5, 30, 50, 70, 95):
        write(f'cut_{share}.mp4', plain[: len(plain) * share // 100])
    contents = {'cut.mkv': mkv, 'cut.webm': live, 'cut_xvid.avi': avi, 'cut_mjpeg.avi': mjpeg}
    for name, content in (contents | {'cut.gif': gif, 'cut.mpg': mpg}).items():
        write(name, content[: len(content) * 7 // 10])
    for content, suffix in ((plain, 'mp4'), (mkv, 'mkv'), (avi, 'avi')):
        kept = len(content) * 8 // 10
        write(f'zeros.{suffix}', content[:kept] + bytes(len(content) - kept))
    # Overwrite frames that the edit list of trimmed.mp4 hides, but that later frames depend on.
    trimmed = (folder / 'trimmed.mp4').read_bytes()
    start, end = trimmed.index(b'mdat'), trimmed.index(b'moov')
    start, end = start + (end - start) // 3, start + (end - start) * 2 // 3
    write('zeros_trimmed.mp4', trimmed[:start] + bytes(end - start) + trimmed[end:])
    middle = len(first) // 188 // 2 * 188
    write('hole.ts', first[:middle] + first[middle + 3 * 188 :])
    start, end = hevc.index(b'mdat'), hevc.index(b'moov')
    for share in (45, 61, 69):  # in the data of three frames
        place = start + (end - start) * share // 100
        hevc = hevc[:place] + b'UUU' + hevc[place + 3 :]
    write('damaged_hevc.mp4', hevc)
    write('huge.gif', gif[:6] + b'\xff\x3f\xff\x1f' + gif[10:])  # 16383 x 8191 pixels
    write('sound.mp4', (folder / 'sound.m4a').read_bytes())
    write('text.mp4', b'This is no film.\n' * 100)
    write('empty.mp4', b'')
    # Byte 16 of the header of a ProRes frame is the colour matrix. The value 3 is reserved.
    parts = prores.split(b'icpf')
    write('matrix.mov', b'icpf'.join([parts[0], *(p[:16] + b'\3' + p[17:] for p in parts[1:])]))
    return folder


class Films(DFERDataset):
    """Provide clips that are given by their paths."""

    METAINFO = dict(classes=('a', 'b'), dataset='films')

    def __init__(self, paths: Sequence[Path], test_mode: bool = False, **kwargs: Any) -> None:
        self.paths = list(map(str, paths))
        pipeline = [
            dict(type='ClipInit'),
            dict(type='SampleSegments', clip_len=16, test_mode=test_mode),
            dict(type='ClipDecode'),
            dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs'),
        ]
        kwargs.setdefault(
            'serialize_data', False
        )  # serialising runs the garbage collector (about 1 s)
        super().__init__('', pipeline, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(filename=p, label=i % 2, clip=f'c{i}') for i, p in enumerate(self.paths)]


def shown(data: dict[str, Any]) -> list[int]:
    """Return the numbers of the frames of a packed clip."""
    images = data['inputs'][0].permute(1, 2, 3, 0).numpy()
    return [files.read_number(image) for image in images]


def in_a_child(call: Callable[[], None], seconds: float = 20) -> None:
    """Run a function in a separate process, which must end in time and without a signal."""
    child = multiprocessing.get_context('fork').Process(target=call)
    child.start()
    child.join(seconds)
    hangs = child.is_alive()
    child.kill()
    child.join()
    assert not hangs and child.exitcode == 0, child.exitcode


# ---------------------------------------------------------------- whole files


@pytest.mark.parametrize('name', WHOLE)
def test_frames_are_those_that_were_asked_for(folder: Path, name: str) -> None:
    numbers, path = list(WHOLE[name]), folder / name
    reader = VideoReader(path)
    assert len(reader) == len(numbers)
    assert [files.read_number(image) for image in reader] == numbers
    asked = [len(numbers) - 1, 0, 7, 7, len(numbers) // 2, 3]
    images = reader.read(asked)
    assert [files.read_number(image) for image in images] == [numbers[i] for i in asked]
    assert all(image.dtype == np.uint8 and image.flags.c_contiguous for image in images)

    edges = [i * len(numbers) // 16 for i in range(17)]
    central = [numbers[(a + b) // 2] for a, b in zip(edges, edges[1:])]
    assert shown(Films([path], test_mode=True).read_view(0, 0)) == central
    for view in range(3):
        seen = shown(Films([path]).read_view(0, view))
        assert all(numbers[a] <= n <= numbers[b - 1] for n, a, b in zip(seen, edges, edges[1:]))


@pytest.mark.parametrize('index', range(len(files.MATRICES)))
def test_frames_are_turned_as_their_tag_says(folder: Path, index: int) -> None:
    special, matrix = list(files.MATRICES.items())[index]
    for number, image in enumerate(VideoReader(folder / f'turned_{index}.mp4')):
        expected = files.turn(files.draw(number, 160, 96), matrix)
        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 10, special


def test_colours_are_converted_by_the_matrix_and_range_of_the_file(folder: Path) -> None:
    for number, image in enumerate(VideoReader(folder / 'bt709_full.mp4')):
        assert np.abs(image.astype(int) - files.draw(number, 127, 101)).mean() < 3
    for name in ('plain.mp4', 'live.webm', 'hevc.mp4', 'moving.gif'):
        image = VideoReader(folder / name).read([20])[0]
        assert np.abs(image.astype(int) - files.draw(20)).mean() < 16, name


def test_frames_of_several_sizes_are_resized_to_one(folder: Path) -> None:
    sizes = {image.shape[:2] for image in VideoReader(folder / 'joined.ts')}
    assert sizes == {(128, 128), (96, 192)}
    data = Films([folder / 'joined.ts'], test_mode=True).read_view(0, 0)
    assert data['inputs'].shape[-2:] == (96, 192)


def test_a_colon_in_a_name_names_no_protocol(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert len(VideoReader('take:12, 100%d.mp4')) == 40


def test_a_long_film_is_decoded_again_and_not_kept(folder: Path, monkeypatch) -> None:
    path, asked = folder / 'trimmed.mp4', [61, 0, 30, 30]
    kept = VideoReader(path).read(asked)
    monkeypatch.setattr(videos, 'KEPT_BYTES', 100_000)
    reader = VideoReader(path)
    assert reader._kept is None
    assert all(map(np.array_equal, reader.read(asked), kept))
    assert len(list(reader)) == len(reader) == 62
    with pytest.raises(IndexError):
        reader.read([62])


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='reads memory from /proc')
def test_memory_does_not_grow_with_the_frames_read(tmp_path: Path, monkeypatch) -> None:
    films = tmp_path / 'film.mp4'
    files.encode(films, *files.X264, '-preset', 'ultrafast', frames=range(60), size=(640, 480))
    monkeypatch.setattr(videos, 'KEPT_BYTES', 2**20)

    def read() -> None:
        gc.disable()  # frames must be freed without the garbage collector
        sizes = []
        for _ in range(3):
            for _image in VideoReader(films):
                pass
            sizes.append(int(Path('/proc/self/statm').read_text().split()[1]) * 4096 / 2**20)
        # 60 frames take 26 MB when decoded and 53 MB as RGB.
        sys.exit(sizes[-1] - sizes[0] > 13)

    in_a_child(read)


def test_numbers_out_of_range(folder: Path) -> None:
    reader = VideoReader(folder / 'plain.mp4')
    for number in (-1, 40):
        with pytest.raises(IndexError, match=r'plain\.mp4: no frame'):
            reader.read([0, number])
    assert reader.read([]) == []


def test_workers_read_what_the_main_process_reads(folder: Path) -> None:
    paths = [folder / name for name in ('plain.mp4', 'cut_50.mp4', 'xvid.avi', 'live.webm')]
    dataset = Films(paths)
    dataset.full_init()
    loader = DataLoader(dataset, 2, num_workers=2, collate_fn=pseudo_collate)
    batches = [inputs for batch in loader for inputs in batch['inputs']]
    assert dataset.unreadable.tolist() == [0, dataset.LOST, 0, 0]
    alone = [Films(paths).read_view(i, 0)['inputs'] for i in (0, 2, 2, 3)]
    # The damaged clip is replaced by the next clip, with the view that the next clip has.
    assert all(map(torch.equal, batches, alone))


def test_nothing_needs_decord(folder: Path) -> None:
    code = f"""
import sys
sys.modules['decord'] = None
sys.path.insert(0, {str(ROOT / 'tests')!r})
from mmengine.registry import init_default_scope
from test_videos import Films, shown
init_default_scope('mmaction')
for test_mode in (True, False):
    print(shown(Films([{str(folder / 'plain.mp4')!r}], test_mode=test_mode).read_view(0, 0)))
"""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr[-500:]
    expected = [
        shown(Films([folder / 'plain.mp4'], test).read_view(0, 0)) for test in (True, False)
    ]
    assert done.stdout.splitlines()[-2:] == list(map(str, expected))


# ---------------------------------------------------------------- damaged files


def test_damaged_files_are_refused_in_time_and_without_a_crash(folder: Path) -> None:
    def read_all() -> None:
        for name in DAMAGED:
            start = time.monotonic()
            try:
                VideoReader(folder / name)
            except UnreadableClipError as error:
                text = str(error)
                assert text.startswith(f'{folder / name}: ') and '\n' not in text, text
            else:
                raise AssertionError(f'{name} was read')
            assert time.monotonic() - start < 2, name

    in_a_child(read_all, 60)


def test_training_testing_and_check_dataset_agree(folder: Path, tmp_path, monkeypatch) -> None:
    tree = trees.mafw(tmp_path / 'tree', media=False)
    clips = sorted(tree.truth['test', 1] | tree.truth['train', 1])
    placed = dict(zip(clips, [*WHOLE, *DAMAGED]))
    target = tree.root / 'data' / 'clips'
    target.mkdir(parents=True)
    for clip, name in placed.items():
        (target / f'{clip}.mp4').symlink_to(folder / name)

    tool = str(ROOT / 'tools' / 'check_dataset.py')
    output = tmp_path / 'report.json'
    arguments = ['mafw', str(tree.root), '--decode', '--out', str(output)]
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(tool, run_name='__main__')
    found = trees.json.loads(output.read_text())['clips']['videos']
    names = [placed[clip] for clip in found['unreadable']]
    assert set(names) == set(DAMAGED) and not found['damaged']

    for name in (*WHOLE, *DAMAGED):
        training = Films([folder / name, folder / 'plain.mp4'])
        training.full_init()
        training.read_view(0, 0)
        assert (training.unreadable[0] == training.LOST) == (name in DAMAGED), name
        if name in DAMAGED:
            with pytest.raises(UnreadableClipError, match='mp4|mkv|webm|avi|gif|mpg|ts|mov'):
                Films([folder / name], test_mode=True).read_view(0, 0)


def test_what_is_no_file_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.mp4')
    (tmp_path / 'folder.mp4').mkdir()
    (tmp_path / 'link.mp4').symlink_to(tmp_path / 'nowhere.mp4')

    def read() -> None:
        for name in ('pipe.mp4', 'folder.mp4'):
            with pytest.raises(UnreadableClipError, match=f'{name}.*not a file'):
                VideoReader(tmp_path / name)
        for name in ('pipe.mp4', 'folder.mp4', 'link.mp4', 'missing.mp4'):
            with pytest.raises(UnreadableClipError, match=name):
                Films([tmp_path / name], test_mode=True).read_view(0, 0)

    in_a_child(read)


def test_damage_raises_no_other_error(folder: Path) -> None:
    """Overwrite bytes at many places; each file must be read or refused."""

    def read() -> None:
        random = np.random.default_rng(0)
        target = folder / 'overwritten'
        for name in ('plain.mp4', 'plain.mkv', 'xvid.avi', 'moving.gif', 'joined.ts'):
            content = np.frombuffer((folder / name).read_bytes(), np.uint8)
            for count in (1, 1, 4, 4, 16, 16, 64, 64):
                changed = content.copy()
                changed[random.integers(len(content), size=count)] = random.integers(256)
                target.write_bytes(changed.tobytes())
                with contextlib.suppress(DFERError):
                    list(VideoReader(target))

    in_a_child(read)


def test_a_block_of_matroska_may_not_leave_its_group(tmp_path: Path) -> None:
    header, segment = b'\x1a\x45\xdf\xa3\x80', b'\x18\x53\x80\x67\xff'
    cluster = b'\x1f\x43\xb6\x75\xff\xe7\x81\x00'  # a cluster of unknown size with a time
    path = tmp_path / 'film.mkv'
    for length, damage in ((4, None), (5, 'a part of the file is overwritten')):
        block = bytes([0xA0, 0x86, 0xA1, 0x80 | length]) + bytes([0x81, 0, 0, 0])
        path.write_bytes(header + segment + cluster + block + b'\xe7\x81\x01')
        assert find_damage(str(path)) == damage
