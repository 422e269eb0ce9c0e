"""The transport against an upstream that does everything wrong, counted at its socket."""
