"""Run `mmdfer leaderboard`."""

from mmdfer.cli.leaderboard import main

if __name__ == '__main__':
    main()
