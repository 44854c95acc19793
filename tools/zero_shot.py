"""Run `mmdfer zero_shot`."""

from mmdfer.cli.zero_shot import main

if __name__ == '__main__':
    main()
