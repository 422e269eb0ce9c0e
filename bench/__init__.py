"""Side-by-side measurements: the gateway, nginx as a bare reverse proxy, and no proxy at all.

`python -m bench --help` tells how; `bench/README.md` tells what the figures mean.
"""
