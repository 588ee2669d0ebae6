"""`python -m shaper`."""

from shaper.cli import main

if __name__ == "__main__":
    main()
