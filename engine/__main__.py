"""`python -m engine` is the `sealrec` command, for where the script is not on the PATH."""

from engine.cli import main

if __name__ == "__main__":
    main()
