"""Run `mmdfer prepare_levels`."""

from mmdfer.cli.prepare_levels import main

if __name__ == '__main__':
    main()
