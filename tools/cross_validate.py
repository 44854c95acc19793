"""Run `mmdfer cross_validate`."""

from mmdfer.cli.cross_validate import main

if __name__ == '__main__':
    main()
