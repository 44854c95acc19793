"""Run `mmdfer train_synth_clip`."""

from mmdfer.cli.train_synth_clip import main

if __name__ == '__main__':
    main()
