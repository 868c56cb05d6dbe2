"""The lab: an emulated AWS on one loopback port, whose instances are local processes."""
