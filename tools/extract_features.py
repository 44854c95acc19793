"""Run `mmdfer extract_features`."""

from mmdfer.cli.extract_features import main

if __name__ == '__main__':
    main()
