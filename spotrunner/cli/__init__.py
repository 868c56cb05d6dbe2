"""The command line: talks to people, and to the daemon over its API; decides nothing.

Modules here import nothing slow at their top: what a command needs, it imports when it runs.
"""
