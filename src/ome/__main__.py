"""`python -m ome` is the command `ome`."""

from ome.cli import main

if __name__ == "__main__":
    main()
