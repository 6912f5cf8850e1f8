"""Run the command line as ``python -m dgate``."""

from dgate.cli.main import main

if __name__ == "__main__":
    main()
