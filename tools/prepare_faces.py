"""Run `mmdfer prepare_faces`."""

from mmdfer.cli.prepare_faces import main

if __name__ == '__main__':
    main()
