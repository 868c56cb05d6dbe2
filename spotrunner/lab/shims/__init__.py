"""Stand-ins for a machine's tools, first on an emulated instance's PATH.

Each module's `main(lab, arguments)` is one tool, or the long-lived process behind one; `lab` is the
instance's own folder for them. The tools import the standard library only: they start often.
"""
