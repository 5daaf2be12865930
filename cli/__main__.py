"""Lets `python -m cli` do what the installed `modcodec` does."""

from cli.app import run

if __name__ == "__main__":
    run()
