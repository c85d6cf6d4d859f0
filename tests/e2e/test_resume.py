"""A server that is killed while it processes a file: three of the kills that `make resume` makes by dozens."""

import resume


def test_a_file_is_gone_on_with_after_a_kill_and_nothing_is_encoded_twice(tmp_path):
    resume.campaign(tmp_path, runs=3, seed=11)
