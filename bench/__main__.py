"""`python -m bench`, `python -m bench connections` and `python -m bench shell`."""

import sys

from bench import connections, session, shell

if __name__ == "__main__":
    if sys.argv[1:2] == ["connections"]:
        connections.main(sys.argv[2:])
    elif sys.argv[1:2] == ["shell"]:
        shell.main(sys.argv[2:])
    else:
        session.main()
