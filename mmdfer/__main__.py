"""Run the console script `mmdfer` as `python -m mmdfer`."""

from mmdfer.cli.main import main

if __name__ == '__main__':
    main()
