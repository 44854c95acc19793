"""Run the command that the first argument of the console script `mmdfer` names.

    mmdfer train align_dfer_synth
    mmdfer train --help

The module of a command is imported only when this command is called. The package `mmdfer` itself is
always imported, which takes a few seconds: the import registers the package's classes in
MMAction2's registries, as `custom_imports` does in the configs.
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
    """Run the command that the first argument names.

    Args:
        argv: The arguments of the command line. By default, those of the process.
    """
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog='mmdfer',
        description='Dynamic facial expression recognition with a frozen CLIP, in MMAction2.',
        epilog='\n'.join(
            ['commands:', *(f'  {name:{width}}  {text}' for name, text in COMMANDS.items())]
            + ['', 'Run mmdfer COMMAND --help for the arguments of a command.']
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmdfer {__version__}')
    parser.add_argument('command', metavar='COMMAND', help='one of the commands below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='arguments of the command')
    args = parser.parse_args(argv)
    with one_line_errors():
        name = find_command(args.command)
    import_module(f'mmdfer.cli.{name}').main(args.arguments)


def find_command(name: str) -> str:
    """Return the name of a command, which may be given with hyphens in place of underscores.

    Raises:
        DFERError: If there is no such command.
    """
    command = name.replace('-', '_')
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS) or COMMANDS
        raise DFERError(f'{name}: no such command; did you mean {" or ".join(near)}?')
    return command
