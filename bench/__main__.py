"""`python -m bench`."""

from bench.session import main

if __name__ == "__main__":
    main()
