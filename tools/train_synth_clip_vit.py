"""Run `mmdfer train_synth_clip_vit`."""

from mmdfer.cli.train_synth_clip_vit import main

if __name__ == '__main__':
    main()
