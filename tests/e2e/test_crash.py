"""A killed server: two of the kills that `make crash` makes by hundreds."""

import crash


def test_what_was_listed_is_there_after_a_kill(tmp_path):
    assert crash.campaign(tmp_path, runs=2, seed=7) <= crash.PART
