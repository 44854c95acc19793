"""`python -m mmdfer` is `mmdfer`."""

from mmdfer.cli.main import main

if __name__ == '__main__':
    main()
