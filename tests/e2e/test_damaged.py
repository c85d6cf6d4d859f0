"""Damaged files: a few of those that `make damaged` uploads by hundreds."""

import damaged


def test_damaged_files_are_refused_or_processed_and_the_server_takes_no_harm(tmp_path):
    seen = damaged.campaign(tmp_path, files=24, seed=5)
    assert seen["failed"] and seen["ready"], seen
