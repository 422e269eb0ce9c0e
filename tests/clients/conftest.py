"""Lets pytest explain the assertions of `playing`, which is no test module itself."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.clients.playing")
