"""The daemon: observe, decide, act, record, over ports."""
