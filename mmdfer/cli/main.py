"""The console script `mmdfer`, which runs the command that its first argument names.

    mmdfer train align_dfer_synth
    mmdfer train --help

A command's module is imported when it is called. The package itself is imported before: that
registers its parts in MMAction2, as `custom_imports` in configs asks for, and takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from mmdfer.cli import COMMANDS
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.version import __version__


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog='mmdfer',
        description='Dynamic facial expression recognition with a frozen CLIP, in MMAction2.',
        epilog='\n'.join(
            ['commands:', *(f'  {name:{width}}  {text}' for name, text in COMMANDS.items())]
            + ['', 'mmdfer COMMAND --help describes the arguments of one.']
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmdfer {__version__}')
    parser.add_argument('command', metavar='COMMAND', help='one of the commands below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help="the command's own arguments")
    args = parser.parse_args(argv)
    with one_line_errors():
        check_name(args.command)
    import_module(f'mmdfer.cli.{args.command}').main(args.arguments)


def check_name(name: str) -> None:
    """Raise DFERError where there is no command of this name."""
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS) or COMMANDS
        raise DFERError(f'{name}: no such command; did you mean {" or ".join(near)}?')
