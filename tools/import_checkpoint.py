"""Run `mmdfer import_checkpoint`."""

from mmdfer.cli.import_checkpoint import main

if __name__ == '__main__':
    main()
