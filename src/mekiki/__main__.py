"""`python -m mekiki`."""

from mekiki.cli import main

if __name__ == "__main__":
    main()
