"""Run `mmdfer test`."""

from mmdfer.cli.test import main

if __name__ == '__main__':
    main()
