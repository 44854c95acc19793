"""Run `mmdfer complexity`."""

from mmdfer.cli.complexity import main

if __name__ == '__main__':
    main()
