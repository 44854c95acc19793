"""Run `mmdfer make_synthetic`."""

from mmdfer.cli.make_synthetic import main

if __name__ == '__main__':
    main()
