"""What a stand-in answers to arguments that the real tool would refuse."""


class WrongUse(Exception):
    """The message is what the tool would print."""
