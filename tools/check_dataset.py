"""Run `mmdfer check_dataset`."""

from mmdfer.cli.check_dataset import main

if __name__ == '__main__':
    main()
