"""Run `mmdfer predict`."""

from mmdfer.cli.predict import main

if __name__ == '__main__':
    main()
