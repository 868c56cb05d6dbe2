"""`spotrunner demo`: a real model trained through two interruptions, in a lab on this machine."""
