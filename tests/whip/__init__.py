"""RFC 9725 (WHIP), a named test a clause, black-box over HTTP.

    pytest tests/whip                                                    # against a server that this starts
    LOOM_WHIP_URL=https://host/path LOOM_WHIP_TOKEN=… pytest tests/whip  # against any server

Without LOOM_WHIP_URL nothing is skipped. With it, what the RFC leaves open (MAY, OPTIONAL) is skipped where the server says
that it does not have it, and so is what needs a server that was configured for the test.
"""
