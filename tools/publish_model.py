"""Run `mmdfer publish_model`."""

from mmdfer.cli.publish_model import main

if __name__ == '__main__':
    main()
